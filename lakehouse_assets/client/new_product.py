"""A new product, written where the settings say, next to the existing products."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse_assets.client.context import Context
from lakehouse_assets.platform.declarations.packages import OWN_PRODUCTS, new_product_package
from lakehouse_assets.platform.ingestion.refused import RefusedFile
from lakehouse_assets.scaffold.new import NewProduct
from lakehouse_assets.scaffold.new import new_product as write
from lakehouse_assets.settings import BUILT_IN_PRODUCTS, SettingError

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.base import Declaration


def new_product(
    context: Context, name: str, files: Sequence[Path], keys: Sequence[str], times: Sequence[str], *, forecast: str | None
) -> NewProduct:
    """See `Client.new_product`."""
    setting = context.settings.products
    package = new_product_package(setting)
    existing = _existing(context, package.folder)
    feeds = [one.feed_name for one in existing if one.feed_name]
    try:
        written = write(
            name,
            files,
            folder=package.folder,
            package=package.name,
            keys=keys,
            times=times,
            products=sorted({one.product for one in existing}),
            feeds=feeds,
            forecast=forecast,
        )
    except RefusedFile as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        raise ValueError(f"{package.folder / name} cannot be written ({error.strerror or error})") from error
    is_loaded = {item.strip() for item in setting.split(",")} - {"", BUILT_IN_PRODUCTS}
    return written if is_loaded else replace(written, setting=OWN_PRODUCTS)


def _existing(context: Context, folder: Path) -> "Sequence[Declaration]":
    """What is declared already, where the package is not yet to be made: its folder comes with its first product."""
    try:
        return context.declarations
    except SettingError:
        if folder.is_dir():
            raise
        return ()
