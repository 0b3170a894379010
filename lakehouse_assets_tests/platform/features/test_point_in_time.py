"""No label sees a value that happened or became known after it, whatever was revised, retracted or known ahead, and when."""

from datetime import UTC, date, datetime, timedelta

import duckdb
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.features.point_in_time import FeatureRows, JoinError, as_first_known, join_as_of, naive_known_at

START = datetime(2024, 1, 1, tzinfo=UTC)
MOMENT = pl.Datetime("us", "UTC")
FEATURES = pl.Schema(
    {"shop": pl.String(), "till": pl.Int32(), "event": MOMENT, "known_at": MOMENT, "is_retracted": pl.Boolean(), "value": pl.Int64()}
)
LABELS = pl.Schema({"shop": pl.String(), "till": pl.Int32(), "at": MOMENT})


def hour(number: int | None) -> datetime | None:
    return None if number is None else START + timedelta(hours=number)


# Few entities, hours and values, so that ties, revisions, late facts and retractions are common; what is known ahead has known_at before
# its event.
shops, tills, hours = st.sampled_from("ab"), st.integers(1, 2), st.integers(0, 9)
feature_rows = st.lists(st.tuples(shops, tills, hours, hours, st.sampled_from([False, False, True]), st.integers(0, 5)), max_size=25)
label_rows = st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), tills, st.one_of(st.none(), st.integers(0, 11))), max_size=12)
lives = st.one_of(st.none(), st.integers(0, 8).map(lambda number: timedelta(hours=number)))


def frame_of(rows) -> pl.LazyFrame:
    return pl.LazyFrame([(shop, till, hour(event), hour(known), *rest) for shop, till, event, known, *rest in rows], FEATURES, orient="row")


def labels_of(rows) -> pl.LazyFrame:
    return pl.LazyFrame([(shop, till, hour(at)) for shop, till, at in rows], LABELS, orient="row")


def by_hand(label, rows, ttl):
    """The value that a patient person would look up."""
    shop, till, at = label
    if shop is None or at is None:
        return None
    known = [row for row in rows if row[:2] == (shop, till) and row[2] <= at and row[3] <= at]
    newest = {row[2]: max(one[3:] for one in known if one[2] == row[2]) for row in known}
    standing = [event for event, (_, retracted, _) in newest.items() if not retracted]
    if not standing or (ttl is not None and hour(max(standing)) < hour(at) - ttl):
        return None
    return newest[max(standing)][2]


def joined(labels, rows, *, rows_at_once=1_000_000, **how) -> pl.DataFrame:
    features = FeatureRows("shop.features.tills", rows, ("shop", "till"), "event", **how)
    return join_as_of(labels, [features], at="at", rows_at_once=rows_at_once).rows


@settings(deadline=None, max_examples=150)
@given(feature_rows, label_rows, lives, st.randoms(use_true_random=False), st.sampled_from([1, 4, 1_000_000]))
def test_it_equals_what_is_looked_up_by_hand_in_any_order_of_rows(rows, wanted, ttl, random, rows_at_once):
    found = joined(labels_of(wanted), frame_of(rows), ttl=ttl, rows_at_once=rows_at_once)
    assert found["value"].to_list() == [by_hand(label, rows, ttl) for label in wanted]
    assert found.select(LABELS.names()).equals(labels_of(wanted).collect()), "labels stay as they are, in their order"
    shuffled = random.sample(rows, len(rows))
    assert joined(labels_of(wanted), frame_of(shuffled), ttl=ttl).equals(found)


@settings(deadline=None, max_examples=60)
@given(feature_rows, label_rows, hours, st.randoms(use_true_random=False))
def test_law_5_as_of_a_time_sees_nothing_that_was_ingested_after_it(rows, wanted, now, random):
    """Rows arrive one after the other in any order: what was known at a time is the same then and ever after."""
    arrivals = sorted(random.sample(rows, len(rows)), key=lambda row: row[3])
    then = [row for row in arrivals if row[3] <= now]
    labels = labels_of([label for label in wanted if label[2] is not None and label[2] <= now])
    at_the_time = joined(labels, frame_of(then))
    for later in (arrivals[: len(then) + 1], arrivals):
        assert joined(labels, frame_of(later)).equals(at_the_time)


@settings(deadline=None, max_examples=60)
@given(feature_rows, label_rows, st.integers(0, 3))
@example([("a", 1, 0, 0, False, 1)], [("a", 1, 0)], 0)
def test_a_row_that_is_taken_had_happened_and_was_known(rows, wanted, ttl):
    features = FeatureRows("shop.features.tills", frame_of(rows), ("shop", "till"), "event", ttl=timedelta(hours=ttl))
    stamps = join_as_of(labels_of(wanted), [features], at="at").found["shop.features.tills"].hstack(labels_of(wanted).collect())
    taken = stamps.filter(pl.col("event_time").is_not_null())
    assert (taken["event_time"] <= taken["at"]).all()
    assert (taken["known_at"] <= taken["at"]).all()
    assert (taken["event_time"] >= taken["at"] - timedelta(hours=ttl)).all()


def test_a_price_of_tomorrow_is_known_today_and_used_tomorrow():
    rows = frame_of([("a", 1, 0, 0, False, 10), ("a", 1, 8, 2, False, 11), ("a", 1, 8, 5, False, 12)])
    found = joined(labels_of([("a", 1, 4), ("a", 1, 7), ("a", 1, 8)]), rows)
    assert found["value"].to_list() == [10, 10, 12]


def test_many_retractions_in_a_row_uncover_the_one_before_them():
    rows = [("a", 1, event, event, False, event) for event in range(50)]
    gone = [("a", 1, event, 100, True, event) for event in range(1, 50)]
    found = joined(labels_of([("a", 1, 99), ("a", 1, 100)]), frame_of(rows + gone))
    assert found["value"].to_list() == [49, 0]


def test_dates_count_from_their_beginning_and_a_label_by_date_to_its_end():
    midnight = datetime(2024, 1, 3, tzinfo=UTC)
    rows = pl.LazyFrame(
        {
            "shop": ["a"] * 3,
            "day": [date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)],
            "known_at": [midnight - timedelta(days=1), midnight, midnight],
            "value": [1, 2, 3],
        },
        schema_overrides={"known_at": MOMENT},
    )
    features = FeatureRows("shop.features.days", rows, ("shop",), "day", ttl=timedelta(days=1))
    days = pl.DataFrame({"shop": ["a"] * 5, "at": [date(2024, 1, day) for day in (1, 2, 3, 4, 5)]})
    assert join_as_of(days, [features], at="at").rows["value"].to_list() == [1, 2, 3, 3, None]
    times = pl.DataFrame({"shop": ["a"] * 3, "at": [midnight - timedelta(hours=1), midnight, midnight + timedelta(hours=25)]})
    assert join_as_of(times, [features], at="at").rows["value"].to_list() == [None, 3, None], "a day that began more than a day ago"
    # An event in the first moment of the next day is after a label of the day.
    moments = rows.with_columns(pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
    features = FeatureRows("shop.features.days", moments, ("shop",), "day")
    assert join_as_of(days, [features], at="at").rows["value"].to_list() == [1, 2, 3, 3, 3]


def test_several_feature_sets_with_prefix_defaults_and_an_entity_from_another_set():
    orders = FeatureRows(
        "shop.features.orders",
        pl.LazyFrame({"order": [1, 2], "event": [START] * 2, "known_at": [START] * 2, "card": ["x", "y"], "amount": [1.5, None]}),
        ("order",),
        "event",
        defaults={"amount": 0},
    )
    cards = FeatureRows(
        "shop.features.cards",
        pl.LazyFrame({"card": ["x"], "event": [START], "known_at": [START], "amount": [7], "note": ["seen"]}),
        ("card",),
        "event",
        defaults={"amount": 0},
        prefix="card_",
    )
    labels = pl.DataFrame({"order": [2, 1, 3], "at": [START] * 3})
    found = join_as_of(labels, [orders, cards], at="at").rows
    assert found.columns == ["order", "at", "card", "amount", "card_amount", "card_note"]
    assert found["amount"].to_list() == [None, 1.5, 0.0], "what is not known of a known order stays so"
    assert found["card_amount"].to_list() == [0, 7, 0]
    assert found["card_note"].to_list() == [None, "seen", None]


def test_values_without_an_entity_are_for_all_labels():
    rows = pl.LazyFrame({"event": [START, hour(5)], "known_at": [START, hour(6)], "rate": [1, 2]})
    labels = pl.DataFrame({"shop": ["a", None, "b"], "at": [hour(5), hour(6), None]})
    for rows_at_once in (1, 100):
        found = join_as_of(labels, [FeatureRows("s.f.rates", rows, (), "event")], at="at", rows_at_once=rows_at_once)
        assert found.rows["rate"].to_list() == [1, 2, None]


def test_types_of_an_entity_that_mean_the_same_are_joined_and_others_are_refused():
    features = pl.LazyFrame({"shop": ["a", "b"], "number": [1, 2], "event": [START] * 2, "known_at": [START] * 2, "value": [1, 2]})
    labels = pl.DataFrame({"shop": ["b"], "number": [2], "at": [START]})
    for shop, number in ((pl.Enum(["b", "c"]), pl.Int8()), (pl.Categorical(), pl.UInt64()), (pl.String(), pl.UInt16())):
        typed = labels.with_columns(pl.col("shop").cast(shop), pl.col("number").cast(number))
        found = join_as_of(typed, [FeatureRows("s.f.x", features, ("shop", "number"), "event")], at="at").rows
        assert found["value"].to_list() == [2]
        assert found.schema["shop"] == shop
    wrong = labels.with_columns(pl.col("number").cast(pl.String))
    with pytest.raises(JoinError, match=r"s\.f\.x: number is Int64, and String in the labels"):
        join_as_of(wrong, [FeatureRows("s.f.x", features, ("number",), "event", columns=("value",))], at="at")


GOOD_LABELS = pl.DataFrame({"shop": ["a"], "at": [START]})
GOOD_ROWS = pl.LazyFrame({"shop": ["a"], "event": [START], "known_at": [START], "value": [1]})


@pytest.mark.parametrize(
    ("labels", "rows", "how", "message"),
    [
        (
            GOOD_LABELS.with_columns(pl.col("at").dt.replace_time_zone(None)),
            GOOD_ROWS,
            {},
            r"s\.gold\.labels: at is a time without a time zone",
        ),
        (GOOD_LABELS.drop("at"), GOOD_ROWS, {}, r"s\.gold\.labels has no column at"),
        (GOOD_LABELS.drop("shop"), GOOD_ROWS, {}, r"s\.gold\.labels has no column shop, which is the entity of s\.f\.x"),
        (GOOD_LABELS.with_columns(value=1), GOOD_ROWS, {}, r's\.f\.x: value is also a column of s\.gold\.labels.*prefix="x_"'),
        (GOOD_LABELS.with_columns(at=pl.lit("2024")), GOOD_ROWS, {}, r"s\.gold\.labels: at has to be a date or a time.* is String"),
        (GOOD_LABELS, GOOD_ROWS.drop("known_at"), {}, r"s\.f\.x has no column known_at"),
        (GOOD_LABELS, GOOD_ROWS.drop("event"), {}, r"s\.f\.x has no column event"),
        (GOOD_LABELS, GOOD_ROWS, {"columns": ("price",)}, r"s\.f\.x has no column price"),
        (
            GOOD_LABELS,
            GOOD_ROWS.with_columns(pl.col("event").dt.replace_time_zone(None)),
            {},
            r"s\.f\.x: event is a time without a time zone",
        ),
        (GOOD_LABELS, GOOD_ROWS.with_columns(pl.col("known_at").dt.date()), {}, r"s\.f\.x: known_at has to be a time with a time zone"),
        (GOOD_LABELS, GOOD_ROWS, {"defaults": {"value": "none"}}, r"s\.f\.x: the default 'none' of value is no Int64"),
    ],
)
def test_what_cannot_be_joined_is_refused_with_its_table(labels, rows, how, message):
    with pytest.raises(JoinError, match=message):
        join_as_of(labels, [FeatureRows("s.f.x", rows, ("shop",), "event", **how)], at="at", name="s.gold.labels")


def test_nanoseconds_are_never_rounded_into_the_past():
    late = pl.Series([START]).cast(pl.Datetime("ns", "UTC")).to_physical() + 1
    rows = GOOD_ROWS.collect().with_columns(late.cast(pl.Datetime("ns", "UTC")).alias("known_at")).lazy()
    labels = pl.DataFrame({"shop": ["a", "a"], "at": [START, START + timedelta(microseconds=1)]})
    assert join_as_of(labels, [FeatureRows("s.f.x", rows, ("shop",), "event")], at="at").rows["value"].to_list() == [None, 1]


def test_no_labels_and_no_features_are_an_empty_answer():
    features = FeatureRows("s.f.x", GOOD_ROWS.filter(pl.col("value") > 1), ("shop",), "event", defaults={"value": 5})
    assert join_as_of(GOOD_LABELS, [features], at="at").rows["value"].to_list() == [5]
    assert join_as_of(GOOD_LABELS.clear(), [features], at="at").rows.schema == {**GOOD_LABELS.schema, "value": pl.Int64()}


def test_a_join_by_event_time_alone_takes_what_became_known_later():
    rows = frame_of([("a", 1, 0, 0, False, 1), ("a", 1, 0, 9, False, 2), ("a", 1, 2, 2, False, 3), ("a", 1, 2, 8, True, 3)])
    features = FeatureRows("s.f.x", rows, ("shop", "till"), "event")
    labels = labels_of([("a", 1, 1), ("a", 1, 3), ("b", 1, 3)]).collect()
    assert naive_known_at(labels, features, at="at").to_list() == [hour(9), hour(9), None], "the retracted row is not there any more"


def test_real_invoices_as_of_join_equals_a_database(real_invoices):
    """At least 100,000 labels and 25,000 feature rows: sales of a product by day, known when the day is over or up to weeks late."""
    quantities = [
        pl.scan_parquet(path).select(
            product=pl.col("StockCode").cast(pl.String),
            time=pl.col("InvoiceDate")
            .cast(pl.String)
            .str.slice(0, 19)
            .str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", time_zone="UTC"),
            quantity=pl.col("Quantity").cast(pl.Int64),
        )
        for path in real_invoices
    ]
    sales = pl.concat(quantities).sort("product", "time", "quantity").collect()
    by_day = sales.group_by("product", event=pl.col("time").dt.truncate("1d")).agg(pl.col("quantity").sum()).sort("product", "event")
    chance = pl.int_range(pl.len()).hash(1) % 10
    days = by_day.with_columns(chance=chance)
    on_time = days.with_columns(known_at=pl.col("event") + pl.duration(days=1), is_retracted=pl.lit(value=False))
    late = on_time.with_columns(
        pl.when(pl.col("chance") == 0).then(pl.col("event") + pl.duration(days=30)).otherwise("known_at").alias("known_at")
    )
    revised = days.filter(pl.col("chance") == 1).with_columns(
        pl.col("quantity") + 1, known_at=pl.col("event") + pl.duration(days=9), is_retracted=pl.lit(value=False)
    )
    gone = days.filter(pl.col("chance") == 2).with_columns(known_at=pl.col("event") + pl.duration(days=5), is_retracted=pl.lit(value=True))
    features = (
        pl.concat([late, revised.select(late.columns), gone.select(late.columns)]).drop("chance").sample(fraction=1, shuffle=True, seed=3)
    )
    labels = sales.gather_every(10).select("product", "time").with_row_index("label")
    assert labels.height >= 100_000
    assert features.height >= 25_000
    rows = FeatureRows("sales.features.products", features.lazy(), ("product",), "event", ttl=timedelta(days=60))
    found = join_as_of(labels, [rows], at="time", rows_at_once=200_000).rows
    with duckdb.connect() as database:
        database.register("labels", labels.to_arrow())
        database.register("features", features.to_arrow())
        database.sql("set timezone = 'UTC'")
        expected = database.sql("""
            with revision as (  -- of a day's sales, until the next one is known
                select *, greatest(event, known_at) as since,
                    lead(greatest(event, known_at)) over (partition by product, event order by known_at) as until
                from features
            )
            select label, arg_max(quantity, event) as quantity, max(event) as event
            from labels join revision on labels.product = revision.product
                and since <= time and (until is null or until > time) and not is_retracted
            group by label, time having max(event) >= time - interval 60 days
        """).pl()
    expected = labels.select("label").join(expected, on="label", how="left", maintain_order="left")
    assert found["quantity"].equals(expected["quantity"])
    assert found["quantity"].null_count() < labels.height / 2


def test_as_first_known_leaves_revisions_out():
    rows = frame_of([("a", 1, 0, 9, False, 2), ("a", 1, 0, 1, False, 1)])
    assert as_first_known(rows, ["shop", "till", "event"]).collect()["value"].to_list() == [1]
