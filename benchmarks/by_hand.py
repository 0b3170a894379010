"""The main job as one careful engineer would write it in a day, with no platform around it: the limit that `main_job` is held against.

It reads the same files, cleans them by the same rules, aggregates, trains, tests and predicts with the same model code; it keeps no
table, no quarantine, no registry. `python -m benchmarks.by_hand FOLDER` prints the seconds of each part as JSON.
"""

import json
import sys
import time
from pathlib import Path

import polars as pl

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.learning import MODEL
from lakehouse_assets.platform.modelling.evaluation import Candidates
from lakehouse_assets.platform.modelling.forecasting.examples import SeriesExamples
from lakehouse_assets.platform.modelling.forecasting.statistics import daily_features
from lakehouse_assets.products.revenue_forecast.forecast import revenue


def read(folder: Path) -> pl.DataFrame:
    """Both published headers under one."""
    frames = []
    for path in sorted(folder.glob("*.parquet")):
        rows = pl.read_parquet(path)
        names = dict(
            zip(rows.columns, ["invoice", "stock_code", "description", "quantity", "at", "price", "customer", "country"], strict=True)
        )
        rows = rows.rename(names)
        at = pl.col("at").str.to_datetime("%Y-%m-%d %H:%M:%S") if rows.schema["at"] == pl.String else pl.col("at").cast(pl.Datetime("us"))
        frames.append(rows.with_columns(at, pl.lit(path.name).alias("file"), pl.col("quantity").cast(pl.Int64)))
    return pl.concat(frames)


def clean(rows: pl.DataFrame) -> pl.DataFrame:
    """Trimmed texts, no overlap between the files, and what each line is."""
    text = pl.col("description").str.strip_chars().str.replace_all("Â£", "£", literal=True)
    content = ["invoice", "stock_code", "description", "quantity", "at", "price", "customer", "country"]
    code = pl.col("stock_code").str.to_uppercase()
    return (
        rows.lazy()
        .with_columns(description=pl.when(text != "nan").then(text))
        .with_columns(occurrence=pl.int_range(pl.len()).over("file", *content))
        .unique([*content, "occurrence"], keep="last", maintain_order=True)
        .filter(pl.col("quantity").is_not_null(), pl.col("price").is_not_null(), pl.col("at").is_not_null())
        .with_columns(
            amount=pl.col("quantity") * pl.col("price"),
            line_type=pl.when(pl.col("invoice").str.starts_with("A"))
            .then(pl.lit("adjustment"))
            .when(code.str.contains("^TEST"))
            .then(pl.lit("test"))
            .when(code.str.contains("^GIFT"))
            .then(pl.lit("gift voucher"))
            .when(code.is_in(["POST", "DOT", "C2", "C3"]))
            .then(pl.lit("carriage"))
            .when(code == "D")
            .then(pl.lit("discount"))
            .when(code.is_in(["BANK CHARGES", "AMAZONFEE", "CRUK"]))
            .then(pl.lit("fee"))
            .when(code.str.contains("^(ADJUST.*|B)$"))
            .then(pl.lit("adjustment"))
            .when(code == "S")
            .then(pl.lit("sample"))
            .when(code == "M")
            .then(pl.lit("other"))
            .when(pl.col("invoice").str.starts_with("C"))
            .then(pl.lit("cancellation"))
            .when(pl.col("quantity") < 0)
            .then(pl.lit("write-off"))
            .when((pl.col("price") == 0) & pl.col("customer").is_null())
            .then(pl.lit("adjustment"))
            .otherwise(pl.lit("sale")),
        )
        .collect()
    )


def aggregate(lines: pl.DataFrame) -> pl.DataFrame:
    """Net revenue by day and product group, discounts shared out over their bill."""
    sold = (pl.col("line_type") == "sale") & (pl.col("amount") > 0)
    bills = (
        lines.filter(pl.col("line_type") == "discount")
        .group_by("invoice")
        .agg(bill_discount=pl.col("amount").sum())
        .join(lines.filter(sold).group_by("invoice").agg(bill_sales=pl.col("amount").sum()), on="invoice")
    )
    share = pl.when(sold).then(pl.col("amount") / pl.col("bill_sales") * pl.col("bill_discount")).fill_null(0.0)
    goods = lines.filter(pl.col("line_type").is_in(["sale", "cancellation", "write-off"]))
    return (
        goods.join(bills, on="invoice", how="left")
        .with_columns(day=pl.col("at").dt.date(), product_group=pl.col("stock_code").str.extract(r"^(\d{2})\d{3}").fill_null("unlisted"))
        .group_by("day", "product_group")
        .agg(net=(pl.col("amount") + share).sum(), orders=pl.col("invoice").filter(pl.col("amount") > 0).n_unique().cast(pl.Int64))
    )


def main(folder: Path) -> None:
    seconds = {}
    started = at = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal at
        now = time.perf_counter()
        seconds[name], at = now - at, now

    rows = read(folder)
    lap("read")
    lines = clean(rows)
    lap("clean")
    daily = aggregate(lines)
    lap("aggregate")
    known = daily_features(daily.lazy(), revenue.series).collect()
    lap("features")
    model = revenue.model
    candidates = Candidates({MODEL: model.learner, **model.baselines}, model.examples, lambda _: known.lazy(), 20, Local())
    candidates.evaluate(model.split)
    trained = candidates.fit(MODEL)
    lap("train and test")
    newest = SeriesExamples(revenue.series, revenue.features.name).newest(known.lazy()).collect()
    forecast = trained.predict(newest.select(trained.inputs))
    lap("predict")
    seconds["total"] = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "lines": lines.height, "forecast": forecast.height, "net": daily["net"].sum()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
