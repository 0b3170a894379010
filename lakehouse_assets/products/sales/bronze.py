"""The files that the shop's source systems drop, as they came. What they mean is decided in `silver`."""

from lakehouse_assets import Feed, feed

invoices = feed(
    "sales.bronze.invoices",
    Feed(
        "invoices",
        headers=(
            ("Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country"),
            ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"),
        ),
    ),
    "Invoice lines as the till writes them, under either of the two headers that it has had.",
)

products = feed(
    "sales.bronze.products",
    Feed(
        "products",
        headers=(("stock_code", "name", "product_group", "component", "list_price"),),
        optional=("replaces",),
        snapshot=True,
    ),
    "Snapshots of the catalogue, now and then; the day stands in the file's name.",
)

customers = feed(
    "sales.bronze.customers",
    Feed(
        "customers",
        headers=(("op", "sequence", "customer", "changed_at"),),
        optional=("name", "email", "country", "segment"),
        personal=("name", "email"),
    ),
    "Change events of the customer register; at times out of order or twice.",
)

payments = feed(
    "sales.bronze.payments",
    Feed(
        "payments",
        headers=(("invoice", "paid_at", "method", "device", "ip_country", "billing_country", "amount"),),
        optional=("card", "customer"),
        personal=("card", "device"),
        row_id="invoice",
    ),
    "One payment an order, as the payment system saw it.",
)

chargebacks = feed(
    "sales.bronze.chargebacks",
    Feed("chargebacks", headers=(("invoice", "reported_at", "reason"),), row_id="invoice"),
    "Payments that the bank took back, five days to ten weeks after them.",
)
