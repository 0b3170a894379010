"""The files of a simulated shop, and its truth held against an independent count of them."""

import json
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.simulator import shop as shop_module
from lakehouse_assets.simulator.invoices import InvoiceText
from lakehouse_assets.simulator.shop import simulate
from lakehouse_assets_tests.simulator.conftest import Simulated

HEADER = ["Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country"]


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def small(folder: Path, **changes: Any) -> Any:
    arguments = {"days": 20, "orders_per_day": 5, "seed": 3, "start": date(2024, 1, 20)} | changes
    return simulate(folder / "landing", folder / "truth.json", **arguments)


def parsed(invoices: pl.DataFrame) -> pl.DataFrame:
    """Rows that a strict reader can read, each day from the first file that has it."""
    return (
        invoices.with_columns(
            quantity=pl.col("Quantity").cast(pl.Int64, strict=False),
            pence=(pl.col("Price").cast(pl.Float64, strict=False) * 100).round().cast(pl.Int64),
            moment=pl.col("InvoiceDate").str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False),
        )
        .drop_nulls(["quantity", "pence", "moment"])
        .with_columns(day=pl.col("moment").dt.date(), amount=pl.col("quantity") * pl.col("pence"))
        .filter(pl.col("file") == pl.col("file").min().over("day"))
    )


def test_the_same_arguments_write_the_same_bytes_and_another_seed_another_shop(tmp_path: Path) -> None:
    first, second, other = (small(tmp_path / name, seed=seed) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert first == second
    names, others = ({name for name in content(tmp_path / n) if "/chargebacks_" not in name} for n in "ac")
    assert names == others, "whether a chargeback is reported in a month depends on the shop"
    assert not set(content(tmp_path / "a").values()) & set(content(tmp_path / "c").values())
    assert other.invoices.amount != first.invoices.amount


def test_where_other_orders_become_fraud_only_the_chargebacks_differ(tmp_path: Path) -> None:
    usual = small(tmp_path / "usual", days=60, orders_per_day=20)
    changed = small(tmp_path / "changed", days=60, orders_per_day=20, fraud_changes=date(2024, 1, 20))
    assert (usual.fraud_changes, changed.fraud_changes) == (None, "2024-01-20")
    assert changed.payments == usual.payments
    first, second = (content(tmp_path / name / "landing") for name in ("usual", "changed"))
    differ = {name.split("/")[0] for name in first.keys() | second.keys() if first.get(name) != second.get(name)}
    assert differ == {"chargebacks"}


def test_files_are_named_by_the_days_in_them(tmp_path: Path) -> None:
    small(tmp_path)
    assert [name for name in content(tmp_path / "landing") if not name.startswith("chargebacks/")] == [
        "customers/customers_2000-01-01_2024-01-19.jsonl",
        "customers/customers_2024-01-20_2024-01-31.jsonl",
        "customers/customers_2024-02-01_2024-02-08.jsonl",
        "invoices/invoices_2024-01-20_2024-01-31.csv",
        "invoices/invoices_2024-02-01_2024-02-08.csv",
        "payments/payments_2024-01-20_2024-01-31.jsonl",
        "payments/payments_2024-02-01_2024-02-08.jsonl",
        "products/products_2024-01-01.csv",
    ]


def test_headers(shop: Simulated) -> None:
    assert {tuple(pl.read_csv(path, infer_schema=False).columns) for path in shop.files("invoices")} == {tuple(HEADER)}
    assert shop.products().columns[:-1] == ["stock_code", "name", "product_group", "component", "list_price", "replaces"]
    assert shop.customers().columns == ["op", "sequence", "customer", "name", "email", "country", "segment", "changed_at"]


def test_a_later_call_goes_on_with_the_same_shop(tmp_path: Path) -> None:
    start = date(2024, 3, 25)
    small(tmp_path / "whole", start=start, days=20, orders_per_day=25)
    small(tmp_path / "parts", start=start, days=9, orders_per_day=25)
    for n in range(9, 20):
        small(tmp_path / "parts", start=start + timedelta(days=n), days=1, orders_per_day=25)

    def rows(folder: Path, feed: str) -> list[str]:
        lines = [line for path in sorted((folder / "landing" / feed).iterdir()) for line in path.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if not line.startswith(("Invoice,", "stock_code,", "invoice,"))]

    for feed in ("invoices", "customers", "payments", "chargebacks"):
        assert rows(tmp_path / "whole", feed) == rows(tmp_path / "parts", feed)
        assert rows(tmp_path / "whole", feed)
    assert set(content(tmp_path / "whole" / "landing" / "products")) == set(content(tmp_path / "parts" / "landing" / "products"))


def test_an_identical_file_is_left_alone(tmp_path: Path) -> None:
    truth = small(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "landing").rglob("*.*")}
    assert small(tmp_path) == truth
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "landing").rglob("*.*")} == before


def test_no_file_has_its_name_before_it_is_complete(tmp_path: Path) -> None:
    invoices = tmp_path / "landing" / "invoices"
    seen: list[str] = []

    def stop_in_february(done: int, of: int) -> None:
        seen.append(" ".join(sorted(path.name for path in invoices.iterdir())))
        if done == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(tmp_path, on_progress=stop_in_february)
    january, february = "invoices_2024-01-20_2024-01-31.csv", "invoices_2024-02-01_2024-02-08.csv"
    assert list(dict.fromkeys(seen)) == [f"{january}.part", f"{january} {february}.part"]
    assert not (tmp_path / "truth.json").exists()
    assert not (tmp_path / "truth_orders.parquet").exists()
    small(tmp_path)
    small(tmp_path / "undisturbed")
    assert content(tmp_path / "landing") == content(tmp_path / "undisturbed" / "landing")


def test_text_in_memory_is_bounded_and_does_not_change_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small(tmp_path / "whole")
    heights: list[int] = []
    rows = InvoiceText.rows

    def counted(self: InvoiceText, lines: Any) -> pl.DataFrame:
        heights.append(len(lines))
        return rows(self, lines)

    monkeypatch.setattr(InvoiceText, "rows", counted)
    monkeypatch.setattr(shop_module, "_LINES_AT_ONCE", 100)
    small(tmp_path / "pieces")
    assert content(tmp_path / "whole") == content(tmp_path / "pieces")
    assert sum(heights) == whole.invoices.rows
    assert len(heights) > 10
    assert max(heights) < whole.invoices.rows / 4


def test_progress_counts_days(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    small(tmp_path, on_progress=lambda done, of: calls.append((done, of)))
    assert calls == sorted(calls)
    assert len(calls) > 15
    assert calls[-1] == (20, 20)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"days": 0}, "at least 1 day"),
        ({"orders_per_day": 0.5}, "from 1 to 10000"),
        ({"orders_per_day": 10_001}, "from 1 to 10000"),
        ({"orders_per_day": float("nan")}, "from 1 to 10000"),
        ({"seed": -1}, "from 0"),
        ({"start": date(1999, 12, 31)}, "2000-01-01"),
        ({"start": date(2049, 12, 31), "days": 2}, "2049-12-31"),
    ],
)
def test_what_cannot_be_simulated_is_refused_and_nothing_is_written(tmp_path: Path, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        small(tmp_path, **wrong)
    assert not list(tmp_path.iterdir())


def test_the_first_and_the_last_day_of_the_shops_life_can_be_simulated(tmp_path: Path) -> None:
    first = small(tmp_path / "first", start=date(2000, 1, 1))
    assert first.invoices.lines > 0
    assert first.chargebacks.of_earlier_days == 0, "nothing was before"
    assert small(tmp_path / "last", start=date(2049, 12, 12)).invoices.lines > 0


def test_days_on_which_the_shop_is_closed_leave_no_invoices(tmp_path: Path) -> None:
    truth = small(tmp_path, start=date(2024, 12, 28), days=3)
    assert (truth.invoices.files, truth.invoices.rows, truth.payments.files, truth.payments.rows) == (0, 0, 0, 0)
    assert not (tmp_path / "landing" / "invoices").exists()
    assert not (tmp_path / "landing" / "payments").exists()
    assert pl.read_parquet(tmp_path / "truth_orders.parquet").is_empty()


def test_truth_file_is_the_truth(shop: Simulated) -> None:
    assert json.loads(shop.truth_file.read_text(encoding="utf-8")) == asdict(shop.truth)


def test_truth_of_rows(shop: Simulated) -> None:
    truth, rows = shop.truth.invoices, shop.invoices()
    assert truth.files == len(shop.files("invoices"))
    assert truth.rows == rows.height
    assert truth.rows == truth.lines + sum(truth.bad_lines.values()) + truth.overlap_rows
    good = parsed(rows)
    assert truth.lines == good.height
    assert truth.invoices == rows["Invoice"].n_unique()
    assert truth.without_customer == good["Customer ID"].null_count()
    assert truth.without_description == good.filter(pl.col("Description").is_null() | (pl.col("Description") == "nan")).height
    assert truth.repeated_lines == good.height - good.select(HEADER).unique().height


def test_truth_of_bad_rows(shop: Simulated) -> None:
    once = shop.invoices().filter(pl.col("file") == pl.col("file").min().over("Invoice"))
    counted = once.select(
        (~pl.col("Quantity").str.contains(r"^-?\d+$")).sum().alias("text in quantity"),
        (~pl.col("Price").str.contains(r"^-?\d+\.\d+$")).sum().alias("text in price"),
        pl.col("InvoiceDate").str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False).is_null().sum().alias("impossible date"),
    ).row(0, named=True)
    assert shop.truth.invoices.bad_lines == counted
    assert min(counted.values()) > 0


def test_overlap_is_whole_days_with_identical_lines(shop: Simulated) -> None:
    rows = shop.invoices()
    twice = rows.filter(pl.col("file").n_unique().over("Invoice") > 1)
    first, second = twice["file"].unique().sort().to_list()
    one, other = (twice.filter(pl.col("file") == n).drop("file") for n in (first, second))
    assert one.equals(other)
    assert other.height == shop.truth.invoices.overlap_rows > 0
    days = (
        rows.filter(pl.col("Invoice").is_in(other["Invoice"].unique().to_list()))
        .select(pl.col("Invoice").str.extract(r"(\d+)\d{5}$"))
        .to_series()
        .unique()
    )
    assert len(days) == 2
    in_those_days = rows.filter(pl.col("Invoice").str.extract(r"(\d+)\d{5}$").is_in(days.to_list()))
    assert in_those_days.height == twice.height


def kind_of(code: str, invoice: str, quantity: int, pence: int) -> str:
    """What a reader who knows the shop would call a line."""
    charges = {"POST": "carriage", "DOT": "carriage", "C2": "carriage", "D": "discount", "M": "manual", "S": "sample"}
    charges |= {"BANK CHARGES": "fee", "AMAZONFEE": "fee", "CRUK": "fee", "ADJUST": "adjustment", "B": "adjustment", "TEST001": "test"}
    if code in charges:
        return charges[code]
    if code.startswith("gift_"):
        return "gift voucher"
    if invoice.startswith("C"):
        return "cancellation"
    if quantity < 0:
        return "write-off"
    return "sale" if pence else "free or found"


def test_truth_of_money(shop: Simulated) -> None:
    truth = shop.truth.invoices
    good = parsed(shop.invoices())
    kinds = [kind_of(*row) for row in good.select("StockCode", "Invoice", "quantity", "pence").iter_rows()]
    good = good.with_columns(kind=pl.Series(kinds))
    assert truth.amount == good["amount"].sum() == sum(truth.amount_by_kind.values())
    lines = dict(good.group_by("kind").len().iter_rows())
    amounts = dict(good.group_by("kind").agg(pl.col("amount").sum()).iter_rows())
    expected = truth.lines_by_kind | {"free or found": truth.lines_by_kind["free"] + truth.lines_by_kind["found"]}
    del expected["free"], expected["found"]
    assert lines == {kind: count for kind, count in expected.items() if count}
    assert {kind: amounts.get(kind, 0) for kind in truth.amount_by_kind} == truth.amount_by_kind

    def total(kind: str) -> pl.Expr:
        return pl.col("amount").filter(pl.col("kind") == kind).sum()

    by_day = good.group_by("day").agg(
        gross=total("sale"),
        returned=-total("cancellation"),
        discount=-total("discount"),
        net=total("sale") + total("cancellation") + total("discount"),
        all=pl.col("amount").sum(),
    )
    counted = {
        str(day): {"gross": gross, "returned": returned, "discount": discount, "other": everything - net, "net": net}
        for day, gross, returned, discount, net, everything in by_day.iter_rows()
    }
    assert truth.revenue_by_day == counted
    assert list(truth.revenue_by_day) == sorted(truth.revenue_by_day)


def test_truth_of_groups_counts_a_renamed_product_under_its_successor(shop: Simulated) -> None:
    products = shop.products()
    latest = products.sort("file").unique("stock_code", keep="last")
    place = {code: (group, component) for code, group, component in latest.select("stock_code", "product_group", "component").iter_rows()}
    successor = {old: new for new, old in latest.select("stock_code", "replaces").drop_nulls().iter_rows()}
    good = parsed(shop.invoices()).filter((pl.col("pence") > 0) | (pl.col("quantity") > 0) & pl.col("Customer ID").is_not_null())
    counted: dict[str, dict[str, dict[str, int]]] = {
        group: {component: {"gross": 0, "returned": 0, "units": 0} for component in kinds}
        for group, kinds in shop.truth.invoices.revenue_by_group.items()
    }
    moved = 0
    for code, invoice, quantity, amount in good.select("StockCode", "Invoice", "quantity", "amount").iter_rows():
        if code not in place and code not in successor:
            continue  # a charge, not a product
        new = code
        while new in successor:
            new = successor[new]
        moved += new != code and place.get(code, place[new]) != place[new]
        cell = counted[place[new][0]][place[new][1]]
        cell["returned" if invoice.startswith("C") else "gross"] += abs(amount)
        cell["units"] += quantity
    assert shop.truth.invoices.revenue_by_group == counted
    assert moved > 0
    assert sum(c["gross"] for kinds in counted.values() for c in kinds.values()) == shop.truth.invoices.amount_by_kind["sale"]


def test_truth_of_products(shop: Simulated) -> None:
    products = shop.products()
    truth = shop.truth.products
    assert (truth.files, truth.rows) == (2, products.height)
    assert truth.products == products["stock_code"].n_unique()
    assert truth.with_predecessor == products.drop_nulls("replaces")["stock_code"].n_unique()
    first, second = (products.filter(pl.col("file") == n) for n in (0, 1))
    renamed = second.join(first, left_on="replaces", right_on="stock_code", how="semi")
    assert truth.renamed == renamed.height > 0
    assert not set(renamed["replaces"]) & set(second["stock_code"])


def test_truth_of_customers(shop: Simulated) -> None:
    events = shop.customers()
    truth = shop.truth.customers
    assert (truth.files, truth.rows) == (len(shop.files("customers")), events.height)
    newest: dict[int, tuple[int, str]] = {}
    seen: set[int] = set()
    duplicates = out_of_order = 0
    for op, sequence, customer in events.select("op", "sequence", "customer").iter_rows():
        duplicates += sequence in seen
        out_of_order += sequence not in seen and sequence < max(seen, default=0)
        seen.add(sequence)
        newest[customer] = max(newest.get(customer, (0, "")), (sequence, op))
    assert (truth.duplicates, truth.out_of_order) == (duplicates, out_of_order)
    assert truth.customers == len(newest)
    assert truth.remaining == sum(op == "upsert" for _, op in newest.values())
    assert truth.deletes == events.filter(pl.col("op") == "delete")["sequence"].n_unique()
    assert min(truth.duplicates, truth.out_of_order, truth.deletes) > 0
