"""Payments and invoices come in files of their own, in any order: when an order is there, and when it is scored."""

import json

from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import run_products, tables_of

HEADER = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country"
ORDERS, FEATURES = "order_fraud.gold.orders", "order_fraud.features.orders"
TABLES = [
    *("sales.bronze.payments", "sales.bronze.invoices", "sales.bronze.products", "sales.bronze.customers", "sales.silver.payments"),
    *("sales.silver.invoice_lines", "sales.silver.products", "sales.silver.customers", "sales.silver.product_groups", ORDERS, FEATURES),
]


def test_an_order_becomes_a_row_once_with_its_basket_however_its_files_come(tmp_path):
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "root")})

    def land(name: str, *rows: str) -> None:
        path = tmp_path / "root" / "landing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(rows) + "\n")
        run_products(settings, TABLES)

    def payment(invoice: str, minute: int) -> str:
        usual = {"method": "card", "card": "c", "device": "d", "ip_country": "France", "billing_country": "France", "amount": 20.0}
        return json.dumps({"invoice": invoice, "paid_at": f"2024-01-02T10:{minute:02}:00Z", "customer": None, **usual})

    def line(invoice: str, minute: int, price: str = "10.0", quantity: str = "2") -> str:
        return f"{invoice},22423,CAKESTAND,{quantity},2024-01-02 10:{minute:02}:00,{price},,France"

    def rows(table: str, *columns: str) -> list[tuple]:
        return tables_of(settings).table(table).scan().select(*columns).sort(*columns).collect().rows()

    land("payments/1.jsonl", payment("500001", 1), payment("500002", 2))
    assert rows(ORDERS, "invoice") == []
    land("invoices/1.csv", HEADER, line("500001", 1), line("500003", 3))
    assert rows(ORDERS, "invoice", "units") == [("500001", 2)]
    land("invoices/2.csv", HEADER, line("500002", 2, price="none"))
    assert rows(ORDERS, "invoice", "units") == [("500001", 2), ("500002", None)], "its lines were rejected, and it is scored"
    land("payments/2.jsonl", payment("500003", 3))
    assert rows(FEATURES, "invoice", "units") == [("500001", 2), ("500002", None), ("500003", 2)], "none was revised"
