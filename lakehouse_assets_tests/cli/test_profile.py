"""`lakehouse profile` and `Client.profile` on a root with personal data: what is printed, written, refused, masked and audited."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from lakehouse_assets import Contract, Feed, Timestamp, Upsert, column, feed, open_lakehouse, table
from lakehouse_assets.cli.main import main
from lakehouse_assets.client import Client
from lakehouse_assets.platform.quality.masking import MASK
from lakehouse_assets.settings import Settings

BRONZE, ORDERS = "shop.bronze.orders", "shop.silver.orders"
DAYS, A_DAY = 12, 360


class Order(Contract):
    """An order."""

    number: int = column(key=True)
    ordered_at: Timestamp
    mail: str = column(personal=True)
    country: str
    amount: float = column(nullable=True)


orders_feed = feed(BRONZE, Feed("orders", headers=(("number", "ordered_at", "mail", "country", "amount"),)), "Orders.")


@table(ORDERS, contract=Order, kind=Upsert(("number",)), inputs={"rows": BRONZE})
def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Orders."""
    return rows


PEOPLE = "shop.silver.people"


class Person(Contract):
    """A person."""

    number: int = column(key=True)
    born: Timestamp = column(personal=True, nullable=True)
    income: float = column(personal=True, nullable=True)


people_feed = feed("shop.bronze.people", Feed("people", headers=(("number", "born", "income"),)), "People.")


@table(PEOPLE, contract=Person, kind=Upsert(("number",)), inputs={"rows": "shop.bronze.people"})
def people(rows: pl.LazyFrame) -> pl.LazyFrame:
    """People."""
    return rows


VISITS = "shop.silver.visits"


class Visit(Contract):
    """A visit."""

    number: int = column(key=True)
    at: Timestamp = column(nullable=True)


visits_feed = feed("shop.bronze.visits", Feed("visits", headers=(("number", "at"),)), "Visits.")


@table(VISITS, contract=Visit, kind=Upsert(("number",)), inputs={"rows": "shop.bronze.visits"})
def visits(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Visits."""
    return rows


def days(first: int, count: int, factor: float = 1) -> pl.DataFrame:
    random, rows = np.random.default_rng(first + 1), count * A_DAY
    number = pl.int_range(first * A_DAY, first * A_DAY + rows, eager=True).alias("number")
    return number.to_frame().with_columns(
        ordered_at=pl.lit(datetime(2026, 1, 1, tzinfo=UTC)) + pl.duration(minutes=pl.col("number") * (1440 // A_DAY)),
        mail=pl.col("number").cast(pl.String) + "@example.org",
        country=pl.Series(random.choice(["UK", "France", "[red]Spain[/]"], rows, p=[0.6, 0.3, 0.1])),
        amount=pl.Series(random.lognormal(3, size=rows)) * factor,
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("profile") / "root"
    stored = opened(root).context.root.lakehouse.table(ORDERS)
    stored.create(orders.schema)
    stored.append(days(0, DAYS).cast(dict(orders.schema)))
    stored.append(days(DAYS, 2, factor=100).cast(dict(orders.schema)))
    return root


def opened(root: Path) -> Client:
    settings = Settings.load({"LAKEHOUSE_ROOT": str(root)})
    return open_lakehouse(
        settings=settings, declarations=(orders_feed, orders, people_feed, people, visits_feed, visits), notice=lambda _: None
    )


@pytest.fixture
def call(template, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lakehouse_assets.client.open_lakehouse", lambda **_: opened(template))

    def call(*words: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, ["profile", *words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return call


def test_the_columns_of_a_table(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    said = call(ORDERS).stdout
    assert f"{ORDERS} at version 2: {(DAYS + 2) * A_DAY:,} rows" in said
    lines = {line.split()[0]: line for line in said.splitlines() if line}
    assert set(lines) >= {"number", "ordered_at", "mail", "country", "amount"}
    assert "[red]Spain[/] (" in lines["country"]
    assert "2026-01-01" in lines["ordered_at"]
    assert MASK in lines["mail"]
    assert "@example.org" not in said


@pytest.mark.parametrize("width", ["40", "80", "200"])
def test_what_drifted_comes_first_at_every_width(call, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    said = " ".join(call(ORDERS, "--time", "ordered_at", "--every", "1d", "--against", f"{ORDERS}@1").stdout.split())
    assert f"compared with {ORDERS} at version 1" in said
    assert "1 of 4 columns that were tested drifted" in said
    assert "Values not tested: number (it is a key)" in said
    assert "Values not tested: ordered_at (it is the column of time)" in said
    assert said.index("amount") < said.index("number")
    assert "ks_test," in said
    assert "1 in 600 windows" in said
    assert "domain_classifier_auc, told apart by amount" in said
    assert "…" not in said


def test_a_window_is_compared_with_the_one_before(call):
    values = json.loads(call(ORDERS, "--time", "ordered_at", "--every", "1d", "--json").stdout, parse_constant=pytest.fail)
    drifted = [row for row in values["drift"] if row["drifted"] and row["column_name"] != ":table"]
    assert [(row["column_name"], row["window_start"], row["drift_type"]) for row in drifted] == [
        ("amount", "2026-01-13T00:00:00+00:00", "CONSECUTIVE")
    ]
    (test,) = [test for test in drifted[0]["thresholds"] if test["exceeded"]]
    assert test["metric"] == "ks_test"
    assert test["value"] > test["threshold"]
    assert 0 < test["false_alarm_rate"] <= 0.01
    assert (values["table"], values["version"], values["against"]) == (ORDERS, 2, None)


def test_a_quiet_version_has_no_drift(call):
    assert (
        "None of 4 columns that were tested drifted, nor did all columns together."
        in call(f"{ORDERS}@1", "--against", f"{ORDERS}@1", "--time", "ordered_at", "--every", "1d").stdout
    )
    assert json.loads(call(f"{ORDERS}@1", "--json").stdout)["drift"] is None
    assert "There are no rows to profile." not in call(f"{ORDERS}@0").stdout
    assert "0 rows" in call(f"{ORDERS}@0", "--time", "ordered_at", "--every", "1d").stdout


def test_slices_and_conditions(call):
    where = "country <> 'France'"
    values = json.loads(call(ORDERS, "--slice", "country", "--where", where, "--json").stdout)
    slices = {row["slice_value"]: row["count"] for row in values["profile"] if row["column_name"] == ":table"}
    assert set(slices) == {None, "UK", "[red]Spain[/]"}
    assert slices[None] == slices["UK"] + slices["[red]Spain[/]"]


def test_personal_data_is_counted_masked_whatever_is_asked(call):
    for words in (
        (),
        ("--slice", "mail"),
        ("--against", f"{ORDERS}@1", "--where", "mail like '%example%'"),
        ("--time", "ordered_at", "--every", "1d"),
    ):
        said = call(ORDERS, *words, "--json").stdout
        assert "example.org" not in said
        (row,) = [row for row in json.loads(said)["profile"] if row["column_name"] == "mail" and row["slice_key"] is None][:1] or [None]
        assert row is None or row["count"] == 0 or row["frequent_items"] == [{"item": MASK, "count": row["count"]}]


def test_a_profile_is_written_to_files(call, tmp_path):
    assert "profile.parquet is written." in call(ORDERS, "-o", "profile.parquet").stdout
    assert pl.read_parquet("profile.parquet").filter(column_name="amount")["count"].item() == (DAYS + 2) * A_DAY
    said = call(ORDERS, "--time", "ordered_at", "--every", "1d", "-o", str(tmp_path / "orders.csv")).stdout
    assert "orders.drift.csv are written." in said.replace("\n", "")
    assert pl.read_csv(tmp_path / "orders.drift.csv").filter("drifted").height == 2


def test_the_read_is_in_the_audit_log_at_its_version(call, template):
    call(ORDERS, "--against", f"{ORDERS}@1")
    lines = [json.loads(line) for path in sorted((template / "audit").iterdir()) for line in path.read_text().splitlines()]
    assert [(line["what"], line["tables"], line["masked"]) for line in lines[-2:]] == [
        ("profile", [f"{ORDERS}@2"], ["mail"]),
        ("profile", [f"{ORDERS}@1"], ["mail"]),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("shop.silver.ordrs",), f"did you mean {ORDERS}?"),
        ((f"{ORDERS}@x",), "what follows the @ is a version, as shop.silver.orders@3; `lakehouse history shop.silver.orders` lists them"),
        ((f"{ORDERS}@99",), "99"),
        ((ORDERS, "--against", "shop.silver.ordrs"), f"did you mean {ORDERS}?"),
        ((ORDERS, "--time", "ordered"), "there is no column 'ordered': did you mean ordered_at?"),
        ((ORDERS, "--time", "country"), "country is String, which is no time: columns of time are ordered_at"),
        ((ORDERS, "--every", "1d"), "windows of 1d need a column of time: name it, as `--time COLUMN`"),
        ((ORDERS, "--time", "ordered_at", "--every", "daily"), "'daily' is no length of a window"),
        ((ORDERS, "--time", "ordered_at", "--every", "5m"), "choose longer windows"),
        ((ORDERS, "--slice", "amount"), "choose a column with fewer values"),
        ((ORDERS, "--where", "amuont > 1"), "there is no column 'amuont': did you mean amount?"),
        ((ORDERS, "-o", "profile.doc"), ".csv, .parquet, .xlsx"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_sentence_that_says_what_to_do(call, words, said):
    result = call(*words, code=1)
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2


def test_a_notebook_gets_frames(template):
    found = opened(template).profile(ORDERS, against=f"{ORDERS}@1", p_values=True)
    assert found.profile.filter(column_name="amount")["distinct_count"].item() == pytest.approx((DAYS + 2) * A_DAY, rel=0.06)
    assert found.drift is not None
    assert found.drift.filter(column_name="country")["chi_squared_test"].struct.field("pvalue").item() > 1e-4
    assert found.drift.filter("drifted")["column_name"].to_list() == [":table", "amount"]


def test_masked_columns_have_the_nulls_of_the_real_ones(tmp_path):
    lake = opened(tmp_path / "root")
    stored = lake.context.root.lakehouse.table(PEOPLE)
    stored.create(people.schema)
    born = [datetime(1980, 1, 1, tzinfo=UTC), None, None, datetime(1990, 1, 1, tzinfo=UTC)]
    stored.append(pl.DataFrame({"number": range(4), "born": born, "income": [1.0, 2.0, 3.0, None]}).cast(dict(people.schema)))
    found = lake.profile(PEOPLE).profile
    assert found.filter(pl.col("column_name").is_in(["born", "income"])).select("count", "num_nulls", "distinct_count").rows() == [
        (2, 2, 1), (3, 1, 1),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="born is String, which is no time"):
        lake.profile(PEOPLE, time="born", every="1d")


def test_moments_beyond_what_python_holds_are_shown(tmp_path, monkeypatch):
    lake = opened(tmp_path / "root")
    monkeypatch.setattr("lakehouse_assets.client.open_lakehouse", lambda **_: lake)
    stored = lake.context.root.lakehouse.table(ORDERS)
    stored.create(orders.schema)
    far = pl.Series([0, 253_402_300_800_000_000, -62_135_683_200_000_000]).cast(pl.Datetime("us", "UTC"))
    rows = pl.DataFrame({"number": range(3), "ordered_at": far, "mail": ["a"] * 3, "country": ["UK"] * 3, "amount": [1.0] * 3})
    stored.append(rows.cast(dict(orders.schema)))
    for words in ((), ("--time", "ordered_at", "--every", "1y"), ("--time", "ordered_at", "--every", "1d", "--json")):
        result = CliRunner().invoke(main, ["profile", ORDERS, *words])
        assert result.exit_code == 0, result.output or result.exception


def test_rows_without_a_time_are_said(tmp_path, monkeypatch):
    lake = opened(tmp_path / "root")
    monkeypatch.setattr("lakehouse_assets.client.open_lakehouse", lambda **_: lake)
    stored = lake.context.root.lakehouse.table(VISITS)
    stored.create(visits.schema)
    stored.append(pl.DataFrame({"number": range(3), "at": [datetime(2026, 1, 1, tzinfo=UTC), None, None]}).cast(dict(visits.schema)))
    said = CliRunner().invoke(main, ["profile", VISITS, "--time", "at", "--every", "1d"]).stdout
    assert "2 rows without a time are in no window of 1d." in said
    assert "The last window, 2026-01-01:" in said


def test_a_condition_chooses_rows_of_the_baseline_too(template):
    found = opened(template).profile(f"{ORDERS}@1", against=f"{ORDERS}@1", where="country = 'UK'")
    assert found.drift is not None
    assert found.drift["count_delta"].to_list() == [0] * found.drift.height
    assert not found.drift["drifted"].any()


def test_a_baseline_that_is_too_small_is_said(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    said = call(ORDERS, "--time", "ordered_at", "--every", "1w", "--against", f"{ORDERS}@1").stdout
    assert "No column was tested." in said
    assert "the baseline has 3 windows of 1w with 20 rows, and 8 are needed" in said
