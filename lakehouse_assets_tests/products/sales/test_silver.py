"""Invoice lines keep their identity over files and headers, and get the type that the business gives them."""

from collections import Counter
from datetime import datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.ingestion.feed import LINEAGE
from lakehouse_assets.products.sales import bronze, silver
from lakehouse_assets_tests.running import land_text, run_products, tables_of

HEADER = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country"
OTHER_HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
LINE = "489434,85048,CHRISTMAS GLASS BALL,12,2009-12-01 07:45:00,6.95,13085,United Kingdom"


def bronze_lines(*texts: str, file: str = "a.csv") -> pl.LazyFrame:
    names = HEADER.split(",")
    rows = [dict(zip(names, text.split(","), strict=True)) | {"_file": file, "_row": n + 1} for n, text in enumerate(texts)]
    return pl.LazyFrame(rows, schema=pl.Schema({**dict.fromkeys(bronze.invoices.feed.columns, pl.String()), **LINEAGE}))


def lines(*texts: str, file: str = "a.csv") -> pl.DataFrame:
    return silver.invoice_lines(bronze_lines(*texts, file=file)).collect()


def line(invoice="489434", code="85048", text="BALL", quantity="12", at="2009-12-01 07:45:00", price="6.95", customer="13085"):
    return f"{invoice},{code},{text},{quantity},{at},{price},{customer},United Kingdom"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("sale", line()),
        ("sale", line(code="DCGS0058")),
        ("sale", line(price="0.0")),
        ("cancellation", line(invoice="C489449", quantity="-12")),
        ("write-off", line(quantity="-3", price="0.0", customer="")),
        ("carriage", line(code="POST")),
        ("carriage", line(code="DOT")),
        ("carriage", line(invoice="C489449", code="C2", quantity="-1")),
        ("discount", line(code="D", quantity="-1")),
        ("fee", line(code="BANK CHARGES")),
        ("fee", line(code="AMAZONFEE", quantity="-1")),
        ("fee", line(code="CRUK")),
        ("adjustment", line(code="ADJUST2")),
        ("adjustment", line(invoice="A506401", code="B", quantity="1", price="-53594.36", customer="")),
        ("adjustment", line(price="0.0", customer="")),
        ("sample", line(code="S")),
        ("gift voucher", line(code="gift_0001_20")),
        ("test", line(code="TEST001")),
        ("other", line(code="m")),
    ],
)
def test_line_types(kind, text):
    assert lines(text)["line_type"].item() == kind


def test_a_line_is_the_same_in_another_file_and_under_the_other_header():
    first = lines(LINE)
    padded = lines(LINE.replace("GLASS BALL", "GLASS BALL  ").replace("13085", "13085.0"), file="b.csv")
    assert first["line_id"].to_list() == padded["line_id"].to_list()
    assert first["invoiced_at"].item() == datetime.fromisoformat("2009-12-01T07:45:00+00:00")


def test_an_honest_repetition_inside_a_file_is_a_line_of_its_own():
    twice = lines(LINE, LINE)["line_id"]
    assert twice.n_unique() == 2
    assert lines(LINE, LINE, file="b.csv")["line_id"].to_list() == twice.to_list()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), max_size=12))
@settings(max_examples=30, deadline=None)
def test_repetitions_are_numbered_by_file_and_content_in_their_order(rows):
    frame = pl.concat([bronze_lines(line(quantity=str(9 + number)), file=file) for file, number in [("a", 0), *rows]])
    ids = silver.invoice_lines(frame).collect()["line_id"].to_list()
    seen = Counter()
    for found, row in zip(ids, [("a", 0), *rows], strict=True):
        seen[row] += 1
        assert found == lines(line(quantity=str(9 + row[1])))["line_id"].item() + (f"-{seen[row]}" if seen[row] > 1 else "")


def test_the_identity_of_a_line_is_stable():
    """Tables keep it for good: whatever changes it would make every line of every lakehouse new."""
    assert lines(LINE)["line_id"].item() == "b788415c0b6a8689081a2eb21eaf7cf3"


def test_pound_signs_in_a_wrong_encoding_are_mended():
    assert lines(line(text="Voucher Â£20.00"))["description"].item() == "Voucher £20.00"


def test_overlapping_files_with_both_headers(settings):
    land_text(settings, "invoices", "1.csv", "\n".join([HEADER, LINE, LINE, line(invoice="489435")]) + "\n")
    land_text(settings, "invoices", "2.csv", "\n".join([OTHER_HEADER, line(invoice="489436"), LINE, LINE]) + "\n")
    account = run_products(settings, ["sales"])["sales.silver.invoice_lines"].account
    assert (account.rows_in, account.written, account.duplicates) == (6, 4, 2)


BAD = [
    (line(quantity="lots"), "readable"),
    (line(at="2024-02-30 10:00:00"), "readable"),
    (line(price="1O.5"), "readable"),
    (line(quantity="1.5"), "readable"),
    (line(price="-3.0"), "negative_price_is_adjustment"),
    (line(invoice="C1234567", quantity="3"), "cancelled_is_negative"),
    (line(quantity=""), "quantity_not_null"),
]


def test_a_bad_line_is_in_quarantine_with_its_text_and_where_it_came_from(settings):
    good = [line(invoice=f"49{number:04d}") for number in range(50)]  # of rows that are mostly bad none is taken
    land_text(settings, "invoices", "1.csv", "\n".join([HEADER, *good, *(given for given, _ in BAD)]) + "\n")
    run_products(settings, ["sales"])
    tables = tables_of(settings)
    assert tables.table("sales.silver.invoice_lines").count() == len(good)
    rejected = tables.table("sales.silver.invoice_lines__quarantine").scan().collect().sort("_row")
    assert rejected.select("_file", "_row").rows() == [("1.csv", len(good) + number) for number in range(1, len(BAD) + 1)]
    assert [broken in found for (_, broken), found in zip(BAD, rejected["_broken"], strict=True)] == [True] * len(BAD)


def event(op: str, sequence: int, customer: str = "1", segment: str = "retail") -> str:
    return (
        f'{{"op": "{op}", "sequence": {sequence}, "customer": "{customer}", "name": "N", "email": "n@example.org", '
        f'"country": "France", "segment": "{segment}", "changed_at": "2024-01-{sequence:02d}T00:00:00"}}'
    )


def test_customer_events_in_any_order_and_over_files_give_one_history(settings, tmp_path):
    events = [event("upsert", 1), event("upsert", 2, segment="trade"), event("upsert", 4, segment="retail"), event("delete", 6)]
    orders = {"a": [[0, 1, 2, 3]], "b": [[3], [1], [0, 2]], "c": [[2, 3, 3], [1, 0]]}
    histories = []
    for name, files in orders.items():
        own = type(settings).load({"LAKEHOUSE_ROOT": str(tmp_path / name)})
        for number, file in enumerate(files):
            land_text(own, "customers", f"{number}.jsonl", "\n".join(events[index] for index in file) + "\n")
            run_products(own, ["sales"])
        kept = tables_of(own).table("sales.silver.customers").scan().sort("sequence").collect()
        histories.append(kept.drop(name for name in kept.columns if name.startswith("_")))
    assert histories[0]["segment"].to_list() == ["retail", "trade", "retail", "retail"]
    assert histories[0]["is_deleted"].to_list() == [False, False, False, True]
    assert histories[1].equals(histories[0])
    assert histories[2].equals(histories[0])


CATALOGUE = "stock_code,name,product_group,component,list_price,replaces"


def test_a_renamed_product_is_continued_under_its_successor(settings):
    land_text(
        settings, "products", "products_2024-01-01.csv", f"{CATALOGUE}\n10001,Mug,kitchen,base,2.50,\n10002,Lid,kitchen,add-on,1.00,\n"
    )
    land_text(
        settings, "products", "products_2024-04-01.csv", f"{CATALOGUE}\n10003,Big mug,bar,base,2.75,10001\n10002,Lid,kitchen,add-on,1.00,\n"
    )
    land_text(settings, "products", "products_2024-07-01.csv", f"{CATALOGUE}\n10004,Huge mug,garden,base,2.75,10003\n")
    run_products(settings, ["sales"])
    groups = tables_of(settings).table("sales.silver.product_groups").scan().sort("stock_code").collect()
    assert groups.select("stock_code", "successor", "product_group").rows() == [
        ("10001", "10004", "garden"),
        ("10002", "10002", "kitchen"),
        ("10003", "10004", "garden"),
        ("10004", "10004", "garden"),
    ]


def test_a_product_that_a_catalogue_lacks_is_retired_and_keeps_its_group(settings):
    mug, lid = "10001,Mug,kitchen,base,2.50,\n", "10002,Lid,kitchen,add-on,1.00,\n"
    land_text(settings, "products", "products_2024-07-01.csv", f"{CATALOGUE}\n{lid}")
    run_products(settings, ["sales"])
    land_text(settings, "products", "products_2024-01-01.csv", f"{CATALOGUE}\n{mug}{lid}")
    run_products(settings, ["sales"])
    history = tables_of(settings).table("sales.silver.products").scan().sort("stock_code", "sequence").collect()
    assert history.select("stock_code", "name", "is_deleted", pl.col("valid_from").dt.month(), "is_current").rows() == [
        ("10001", "Mug", False, 1, False),
        ("10001", "Mug", True, 7, False),
        ("10002", "Lid", False, 1, True),
    ]
    groups = tables_of(settings).table("sales.silver.product_groups").scan().sort("stock_code").collect()
    assert groups["product_group"].to_list() == ["kitchen", "kitchen"]


def test_a_circle_of_renamings_ends():
    history = pl.LazyFrame(
        {
            "stock_code": ["1", "2"],
            "replaces": ["2", "1"],
            "product_group": ["a", "b"],
            "component": ["base", "base"],
            "valid_to": [None, None],
        }
    )
    assert silver.product_groups(history).collect().height == 2
