"""A target that a classifier cannot be meant with: a sentence in its own words as the reason, and no error; no warning without rows."""

from datetime import timedelta

import polars as pl
import pytest

from lakehouse_assets import classifier
from lakehouse_assets.platform.declarations.learning import NotEnoughData
from lakehouse_assets.platform.storage.known_at import IS_RETRACTED, KNOWN_AT_ASSUMED
from lakehouse_assets_tests.platform.recipes.shop_orders import FIRST

COUNT = 60
CASES = [
    (["no", "yes"], {"positive": "YES"}, "positive='YES' is not among the values no, yes of shop.silver.orders: outcome"),
    (["no"], {"positive": "yes"}, "positive='yes' is not among the values no of"),
    (["no", "yes"], {}, "has the value\\(s\\) no, yes: say which one counts, as positive='yes'"),
    (["a", "b", "c"], {}, "has the value\\(s\\) a, b, c: name all that are to be predicted in classes="),
    (["a", "b", "c"], {"classes": ("a", "b", "x")}, "has the value\\(s\\) c, and classes= names a, b, x"),
    ([1, 2, 3], {}, "has the value\\(s\\) 1, 2, 3: name all .* in classes="),
    ([number / 7 for number in range(COUNT)], {}, "has 59 values, .* objective='regression'"),
]


def rows_of(values: list, count: int = COUNT) -> pl.DataFrame:
    outcome = pl.Series("outcome", [values[number % len(values)] for number in range(COUNT)])
    at = pl.Series("at", [FIRST + timedelta(hours=number) for number in range(COUNT)], pl.Datetime("us", "UTC"))
    return pl.DataFrame([pl.Series("order", [f"o{number}" for number in range(COUNT)]), at, pl.Series("size", range(COUNT)), outcome]).head(
        count
    )


def examples(rows: pl.DataFrame, **options):
    made = classifier(
        "shop.sold",
        table="shop.silver.orders",
        target="outcome",
        entity=("order",),
        time="at",
        inputs={"size": int},
        settled=timedelta(minutes=1),
        **options,
    )
    features = rows.select("order", "at", "size", known_at="at").with_columns(
        pl.lit(value=False).alias(IS_RETRACTED), pl.lit(value=True).alias(KNOWN_AT_ASSUMED)
    )
    tables = {"shop.silver.orders": rows.lazy(), made.features.name: features.lazy()}
    return made.model.examples, tables.__getitem__


@pytest.mark.parametrize(("values", "options", "said"), CASES)
def test_a_target_that_cannot_be_meant_is_said_in_the_words_of_the_recipe(values, options, said):
    found, read = examples(rows_of(values), **options)
    with pytest.raises(NotEnoughData, match=said):
        found.rows(read).collect()


@pytest.mark.parametrize(
    ("values", "options"),
    [([True, False], {}), ([0, 1], {}), ([0.0, 1.0], {}), (["no", "yes"], {"positive": "yes"}), ([1, 2, 3], {"classes": ("1", "2", "3")})],
)
def test_a_target_that_can_be_meant_is_learnt(values, options):
    found, read = examples(rows_of(values), **options)
    assert found.rows(read).collect()["outcome"].n_unique() == len(values)


def test_a_part_of_the_rows_may_lack_the_value_that_counts():
    late = ["no"] * 50 + ["yes"] * 10
    found, read = examples(rows_of(late), positive="yes")
    early = found.rows(read, FIRST + timedelta(hours=20)).collect()
    assert early["outcome"].unique().to_list() == [False]


@pytest.mark.parametrize("options", [{"positive": "yes"}, {"classes": ("a", "b", "c")}, {}])
def test_without_rows_there_is_no_warning(options):
    found, read = examples(rows_of(["no", "yes"], 0), **options)
    assert found.rows(read).collect().is_empty()
