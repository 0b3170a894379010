"""A written product waits exactly as long for outcomes as the search did."""

import re
from datetime import timedelta

import pytest

from lakehouse_assets import Linear
from lakehouse_assets.platform.recipes.question import question
from lakehouse_assets.scaffold.first_model import Plan
from lakehouse_assets.scaffold.render_first_predictions import model_module
from lakehouse_assets_tests.platform.recipes.shop_orders import orders


@pytest.mark.parametrize("days", [0, 60, 1 / 24, 1 / 3, 0.1234567891, 1234567, 999999.123456, 1e-9])
def test_the_product_says_how_long_to_the_microsecond(days):
    rows, settled = orders(60), timedelta(days=days)
    asked = question(rows, "shop.silver.orders", "amount", "ordered_at", ["order"], settled=settled)
    source = model_module(Plan("orders", "products", False, asked, Linear("regression"), "", dict(rows.schema), ()))
    (said,) = re.findall(r"settled=timedelta\((.*)\),$", source, re.MULTILINE)
    parts = dict(re.findall(r"(\w+)=(\d+)", said))
    assert timedelta(**{unit: int(value) for unit, value in parts.items()}) == settled
    assert parts or said == "0"
