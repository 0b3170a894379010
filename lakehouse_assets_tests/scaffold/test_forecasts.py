"""`lakehouse new … --forecast` writes the forecast of a daily sum of gold, or says why there is none."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse_assets import open_lakehouse
from lakehouse_assets.scaffold.new import new_product
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.scaffold.files import write

PROJECT = Path(__file__).parents[2]
HEADER = ["Order", "Ordered", "Country", "Channel", "Customer e-mail", "Amount", "Temperature"]


def orders(folder: Path) -> Path:
    rows = [
        [
            f"A{row:03d}",
            f"2026-01-{row % 28 + 1:02d}",
            "DE" if row % 2 else "FR",
            "wsp"[row % 3],
            f"p{row}@mail.example",
            row * 1.5,
            20 + row / 8,
        ]
        for row in range(60)
    ]
    return write(folder, "orders.csv", [HEADER, *rows])


def made(folder: Path, forecast: str) -> str:
    """The source of `forecast.py`."""
    new_product("shop", [orders(folder)], folder=folder / "my_products", package="my_products", forecast=forecast)
    return (folder / "my_products" / "shop" / "forecast.py").read_text()


@pytest.mark.parametrize(
    ("wanted", "value", "by"),
    [
        ("orders", "orders", None),
        ("Amount", "total_amount", None),
        ("amount", "total_amount", None),
        ("total_amount,Country", "total_amount", "country"),
        ("orders, Channel", "orders", "channel"),
    ],
)
def test_the_forecast_is_of_a_sum_or_a_count_by_the_wanted_group(tmp_path, wanted, value, by):
    source = made(tmp_path, wanted)
    assert f'value="{value}"' in source
    assert re.findall(r"by=\((.*),\)", source) == ([f'"{by}"'] if by else [])
    gold = (tmp_path / "my_products" / "shop" / "gold.py").read_text()
    assert f'group_by("month", "day", "{by or "country"}")' in gold


def test_what_is_written_is_loaded_formatted_and_linted(tmp_path, monkeypatch):
    source = made(tmp_path, "amount,country")
    assert 10 <= len(source.splitlines()) <= 25
    for arguments in (["format", "--check"], ["check", "--no-cache"]):
        words = [sys.executable, "-m", "ruff", *arguments, "--config", str(PROJECT / "pyproject.toml"), "my_products"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    monkeypatch.syspath_prepend(tmp_path)
    lake = open_lakehouse(
        settings=Settings.load({"LAKEHOUSE_PRODUCTS": str(tmp_path / "my_products"), "LAKEHOUSE_ROOT": str(tmp_path / "root")})
    )
    names = {one.name for one in lake.context.declarations}
    assert {"shop.features.daily_orders", "shop.models.daily_orders", "shop.predictions.daily_orders"} <= names
    for name in [name for name in sys.modules if name.split(".")[0] == "my_products"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("ammount", "--forecast ammount: gold does not add it up by day. There are: orders, total_amount"),
        ("Temperature", "Temperature is averaged in gold, and a forecast adds up the values of a day"),
        ("amount,countri", "no file has a column 'countri'. Did you mean country?"),
        ("amount,Customer e-mail", "customer_e_mail is no column of groups: it holds personal data"),
        ("amount,Ordered", "ordered is no column of groups"),
    ],
)
def test_what_cannot_be_forecast_is_said_and_nothing_is_written(tmp_path, wanted, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        made(tmp_path, wanted)
    assert not (tmp_path / "my_products").exists()


def test_without_a_time_there_is_no_forecast(tmp_path):
    file = write(tmp_path, "stock.csv", [["Sku", "Shelf", "Units"], *([f"S{row}", "ab"[row % 2], row] for row in range(40))])
    with pytest.raises(ValueError, match="the rows of stock have no time"):
        new_product("shop", [file], folder=tmp_path / "my_products", package="my_products", forecast="units,shelf")


def of(folder: Path, name: str, header: list[str], rows: list[list[object]], wanted: str) -> str:
    """The source of the forecast of a file."""
    file = write(folder, f"{name}.csv", [header, *rows])
    new_product("shop", [file], folder=folder / "my_products", package="my_products", forecast=wanted)
    return (folder / "my_products" / "shop" / "forecast.py").read_text()


@pytest.mark.parametrize("wanted", ["sales", "Sales", "total_sales"])
def test_a_column_that_is_called_like_its_feed_is_forecast_and_not_the_count(tmp_path, wanted):
    rows = [[f"2026-01-{row % 28 + 1:02d}", "wsp"[row % 3], row * 1.5] for row in range(60)]
    source = of(tmp_path, "sales", ["Day", "Channel", "Sales"], rows, wanted)
    assert 'value="total_sales"' in source
    assert "the sum of sales, added up by day" in source
    assert "Another column of gold can stand here: number_of_sales" in source


@pytest.mark.parametrize(("groups", "wanted"), [(1, "museum"), (2, "museum,branch")])
def test_a_count_that_is_always_one_is_not_forecast_but_the_only_sum(tmp_path, groups, wanted):
    rows = [[f"2026-{day // 28 + 1:02d}-{day % 28 + 1:02d}", "ab"[group], day % 9] for day in range(60) for group in range(groups)]
    source = of(tmp_path, "museum", ["Day", "Branch", "Visitors"], rows, wanted)
    assert 'value="total_visitors"' in source
    assert "Not museum, the count of rows" in source


def test_of_several_sums_one_has_to_be_named_where_the_count_is_always_one(tmp_path):
    rows = [[f"2026-{day // 28 + 1:02d}-{day % 28 + 1:02d}", day % 9, day * 1.5] for day in range(60)]
    with pytest.raises(ValueError, match="museum has one row a day: name a sum: total_visitors, total_takings"):
        of(tmp_path, "museum", ["Day", "Visitors", "Takings"], rows, "museum")
