"""What the package exports, and what using it loads: each process below is a fresh one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import lakehouse_assets
from lakehouse_assets_tests.running import land_text, run_products, tables_of

# As the design names them.
PUBLIC = [
    "Contract",
    "column",
    "rule",
    "Timestamp",
    "feed",
    "Feed",
    "conform",
    "text",
    "code",
    "whole_number",
    "number",
    "money",
    "boolean",
    "timestamp",
    "day",
    "choice",
    "with_line_id",
    "table",
    "Dimension",
    "Append",
    "Upsert",
    "SCD1",
    "SCD2",
    "ByPartition",
    "ByKey",
    "ByKeyAndTime",
    "Trailing",
    "Full",
    "feature_set",
    "model",
    "predictions",
    "endpoint",
    "monitor",
    "AlertRule",
    "Drift",
    "ResidualDrift",
    "Freshness",
    "Volume",
    "LiveAccuracy",
    "forecast",
    "window_features",
    "classifier",
    "Labels",
    "NotEnoughData",
    "Gate",
    "NewestLimits",
    "LeakageLimits",
    "Retrain",
    "reasons",
    "Costs",
    "GradientBoosting",
    "Linear",
    "Sklearn",
    "Blend",
    "PerSegment",
    "Search",
    "ClassPrior",
    "Mean",
    "Median",
    "InputColumn",
    "BestRule",
    "RollingOrigins",
    "RollingTime",
    "TimeFolds",
    "TimeHoldout",
    "GroupSplit",
    "StratifiedSplit",
    "Wape",
    "MeanAbsoluteError",
    "RootMeanSquaredError",
    "Bias",
    "Pinball",
    "Coverage",
    "LogLoss",
    "Brier",
    "Auc",
    "AveragePrecision",
    "CalibrationError",
    "Accuracy",
    "MacroF1",
    "Cost",
    "open_lakehouse",
]
HEAVY = ("dagster", "mlflow", "pandas", "pandera", "lightgbm", "matplotlib", "scipy")
INVOICES = """Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country
489434,85048,CANDLE,12,2009-12-01 07:45:00,6.95,13085,United Kingdom
"""


def test_the_public_names_are_those_of_the_design():
    assert list(lakehouse_assets._MODULES) == PUBLIC
    assert set(PUBLIC) <= set(dir(lakehouse_assets))


def test_each_public_name_can_be_imported():
    assert [name for name in PUBLIC if not hasattr(lakehouse_assets, name)] == []
    assert lakehouse_assets.__all__ == PUBLIC
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        lakehouse_assets.nonsense  # noqa: B018


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A root with a few tables, whose policy is cached as it is after the first read."""
    from lakehouse_assets.settings import Settings

    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path_factory.mktemp("imports") / "root")})
    land_text(settings, "invoices", "a.csv", INVOICES)
    run_products(settings, ["sales.bronze.invoices", "sales.silver.invoice_lines"])
    assert tables_of(settings).table("sales.silver.invoice_lines").count() == 1
    lakehouse_assets.open_lakehouse(settings.root).table("sales.silver.invoice_lines").scan()
    return settings.root


def loaded_by(code: str, root: Path, words: list[str] | None = None) -> set[str]:
    """Which heavy packages a fresh process loads."""
    report = "import sys, json; print('LOADED', json.dumps(sorted(sys.modules)))"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    source = f"import atexit; atexit.register(lambda: exec({report!r}))\n{code}"
    environment = clean | {"LAKEHOUSE_ROOT": str(root)}
    done = subprocess.run([sys.executable, "-c", source, *(words or [])], capture_output=True, text=True, env=environment, cwd=root.parent)
    assert done.returncode == 0, done.stderr
    modules = json.loads(done.stdout.rpartition("LOADED ")[2])
    return {module.partition(".")[0] for module in modules}


def test_importing_the_package_loads_nothing(root):
    assert not loaded_by("import lakehouse_assets", root) & {*HEAVY, "polars", "deltalake", "pyarrow"}


def test_reading_a_table_loads_no_dagster_no_mlflow_no_pandas(root):
    code = """
from lakehouse_assets import open_lakehouse
assert open_lakehouse().table("sales.silver.invoice_lines").scan().collect().height == 1
"""
    assert not loaded_by(code, root) & set(HEAVY)


def test_the_first_read_after_a_change_of_code_loads_the_products_and_no_dagster(root, tmp_path):
    code = f"""
import shutil
from lakehouse_assets import open_lakehouse
shutil.copytree({str(root)!r}, {str(tmp_path / "copy")!r}, ignore=shutil.ignore_patterns("cache"))
assert open_lakehouse({str(tmp_path / "copy")!r}).table("sales.silver.invoice_lines").scan().collect().height == 1
"""
    loaded = loaded_by(code, root)
    assert "pandera" in loaded
    assert not loaded & {"dagster", "mlflow", "lightgbm", "matplotlib"}


@pytest.mark.parametrize(
    "words",
    [
        ["show", "sales.silver.invoice_lines"],
        ["show", "sales.silver.invoice_lines", "--json", "--version", "0"],
        ["history", "sales.silver.invoice_lines"],
        ["sql", "select count(*) from sales.silver.invoice_lines"],
        ["files"],
        ["files", "rows", "invoices/a.csv"],
        ["export", "sales.silver.invoice_lines", "lines.csv"],
        ["profile", "sales.silver.invoice_lines", "--time", "invoiced_at", "--every", "1d"],
        ["sql", "select 1 as a", "--format", "csv"],
        ["completion", "zsh"],
        ["files", "origin", "sales.silver.invoice_lines"],
        ["settings"],
        ["--help"],
    ],
    ids=" ".join,
)
def test_a_command_that_reads_loads_no_dagster_no_mlflow_no_pandas(root, words):
    assert not loaded_by("from lakehouse_assets.cli.main import main\nmain()", root, words) & set(HEAVY)


@pytest.mark.parametrize("words", [["status"], ["models"], ["features"], ["doctor"], ["quarantine"], ["run", "--help"]], ids=" ".join)
def test_a_command_that_reports_loads_no_dagster_and_no_mlflow(root, words):
    assert not loaded_by("from lakehouse_assets.cli.main import main\nmain()", root, words) & {"dagster", "mlflow"}


def test_commands_that_land_and_replay_load_no_dagster(root, tmp_path):
    (tmp_path / "b.csv").write_text(INVOICES.replace("489434", "489435"))
    main = "from lakehouse_assets.cli.main import main\nmain()"
    for words in (
        ["land", "invoices", str(tmp_path / "b.csv"), "--dry-run"],
        ["quarantine", "show", "sales.silver.invoice_lines"],
    ):
        assert "dagster" not in loaded_by(main, root, words)


def test_a_lazy_frame_of_the_client_is_a_polars_frame(root):
    assert isinstance(lakehouse_assets.open_lakehouse(root).table("sales.silver.invoice_lines").scan(), pl.LazyFrame)
