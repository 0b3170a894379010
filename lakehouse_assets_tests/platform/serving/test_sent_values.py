"""Values as clients write them: pandas' whole floats and times, features that are left out, names that there are not. In all protocols."""

import json
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
import polars as pl
import pytest

from lakehouse_assets.platform.serving.inference_log.table import rows
from lakehouse_assets.platform.serving.protocols import inference, mlflow
from lakehouse_assets.platform.serving.refused import Refused
from lakehouse_assets.platform.serving.rows import RowType
from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.till import INPUTS, Till, constant, listening, receipt, settings_in, until

NATIVE, INVOCATIONS, INFER = "/endpoints/receipts", "/invocations", "/v2/models/receipts/infer"


@pytest.fixture(scope="module", params=["default", "refuse"])
def connection(request, tmp_path_factory):
    till = Till(settings_in(tmp_path_factory.mktemp("till")))
    till.promote(till.add(constant(0.75)))
    service = till.service(missing=request.param)
    logged = service.log.append
    service.log.append = lambda records: (LOGGED.extend(records), logged(records))
    with listening(service) as address, Connection(address) as made:
        until(lambda: service.served["receipts"].versions is not None)
        made.missing = request.param
        yield made


LOGGED: list[Any] = []
FULL = INPUTS.row(0, named=True)


def logged() -> list[dict[str, Any]]:
    """What the table of the log has of the requests, with its objects read."""
    found = rows(LOGGED).rows(named=True)
    return [row | {name: json.loads(row[name]) for name in ("features", "status", "request")} for row in found]


def bodies(rows: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """The same rows of features in each protocol; all of them have the same fields."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    tensors = [{"name": name, "shape": [len(rows)], "datatype": "BYTES", "data": values} for name, values in columns.items()]
    return [
        (NATIVE, {"features": rows}),
        (INVOCATIONS, {"dataframe_records": rows}),
        (INVOCATIONS, {"instances": rows}),
        (INVOCATIONS, {"inputs": columns}),
        (INVOCATIONS, {"dataframe_split": {"columns": list(columns), "data": [list(row.values()) for row in rows]}}),
        (INFER, {"inputs": tensors}),
    ]


def without(*names: str, **more: Any) -> dict[str, Any]:
    return {name: value for name, value in FULL.items() if name not in names} | more


def test_a_looked_up_feature_that_is_left_out_has_its_default_and_is_said_or_refused(connection):
    for path, body in bodies([without("shop_returns")]):
        LOGGED.clear()
        status, answer = connection.post(path, body)
        if connection.missing == "refuse":
            assert (status, answer["errors"][0]["row"], answer["errors"][0]["field"]) == (422, 0, "shop_returns"), (path, answer)
            continue
        assert status == 200, answer
        (record,) = logged()
        assert record["features"]["shop_returns"] == 0.5  # as the feature set declares
        assert record["status"]["till.features.shops"]["status"] == "missing"
        assert "shop_returns" not in record["request"]
        if path == INFER:
            outputs = {one["name"]: one["data"] for one in answer["outputs"]}
            assert json.loads(outputs["features"][0]) == {"missing": ["till.features.shops"]}
        else:
            assert answer["predictions"][0]["features"] == {"missing": ["till.features.shops"]}


def test_a_null_that_is_sent_is_the_value(connection):
    for path, body in bodies([without(shop_returns=None)]):
        LOGGED.clear()
        status, answer = connection.post(path, body)
        assert status == 200, answer
        assert (logged()[0]["features"]["shop_returns"], logged()[0]["status"]) == (None, {})


def test_rows_of_one_request_may_leave_out_different_fields(connection):
    LOGGED.clear()
    status, answer = connection.post(NATIVE, {"features": [FULL, without("shop_returns"), FULL]})
    if connection.missing == "refuse":
        assert (status, [error["row"] for error in answer["errors"]]) == (422, [1])
        return
    assert [row.get("features") for row in answer["predictions"]] == [None, {"missing": ["till.features.shops"]}, None]
    sent = {record["row"]: "shop_returns" in record["request"] for record in logged()}
    assert sent == {0: True, 1: False, 2: True}
    assert {record["request"]["amount"] for record in logged()} == {FULL["amount"]}, "each value stands at its own field"


@pytest.mark.parametrize("name", ["amount", "each", "has_note"])
def test_a_feature_that_is_computed_and_needed_is_required_by_field(connection, name):
    for path, body in [*bodies([without(name)]), *bodies([without(**{name: None})])]:
        status, answer = connection.post(path, body)
        assert (status, answer["errors"][0]["row"], answer["errors"][0]["field"]) == (422, 0, name), (path, answer)


def test_a_name_that_there_is_not_is_told_with_the_closest_one(connection):
    for path, body in bodies([without("shop_returns", shop_retruns=0.1)]):
        status, answer = connection.post(path, body)
        assert (status, answer["errors"][0]["field"]) == (422, "shop_retruns"), (path, answer)
        assert answer["errors"][0]["message"].endswith("Did you mean shop_returns?")


@pytest.mark.parametrize(
    ("items", "said"),
    [(4.0, None), (4.5, "not whole"), (1e300, "too large"), (2.0**60, "too large"), (10**30, "too large"), ("4", "number")],
)
def test_whole_floats_are_whole_numbers_of_events(connection, items, said):
    status, answer = connection.post(NATIVE, {"rows": [receipt(1, items=items)]})
    if said is None:
        assert status == 200, answer
        return
    assert (status, answer["errors"][0]["field"], said in answer["errors"][0]["message"]) == (422, "items", True), answer


def test_times_as_pandas_writes_them_are_read(connection):
    moments = pd.to_datetime(["2024-03-01T12:00:00.123Z", "2024-03-02T00:00:00.000Z"])
    frames = [pd.DataFrame([FULL, FULL]).assign(receipt=["r1", "r2"], at=at) for at in (moments, moments.tz_localize(None))]
    expected = [moment.to_pydatetime() for moment in moments]
    for frame in frames:
        for date_format in ("epoch", "iso"):
            LOGGED.clear()
            split = json.loads(frame.to_json(orient="split", date_format=date_format))
            status, answer = connection.post(INVOCATIONS, {"dataframe_split": split})
            assert status == 200, answer
            assert [record["event_time"] for record in logged()] == expected


# --- without a server: types that the small product has not


TYPES = {"number": pl.Int32(), "small": pl.UInt8(), "moment": pl.Datetime("us", "UTC"), "naive": pl.Datetime("us"), "day": pl.Date(),
         "flag": pl.Boolean(), "real": pl.Float64(), "text": pl.String()}  # fmt: skip
ROWS = RowType("a row", TYPES, frozenset(TYPES))
FRAME = pd.DataFrame(
    {
        "number": [1, None, -3],  # becomes float
        "small": [0, 255, None],
        "moment": pd.to_datetime(["2024-03-01T12:00:00.5Z", None, "1969-12-31T23:59:59.0Z"]),
        "naive": pd.to_datetime(["2024-03-01T12:00:00.5", "2024-01-01T00:00:00.0", None]),
        "day": pd.to_datetime(["2024-03-01", None, "2023-12-31"]),
        "flag": [True, None, False],
        "real": [1.5, None, 2.0],
        "text": ["a", None, "2024-01-01"],
    }
)
EXPECTED = {
    "number": [1, None, -3],
    "small": [0, 255, None],
    "moment": [datetime(2024, 3, 1, 12, 0, 0, 500_000, UTC), None, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)],
    "naive": [pd.Timestamp("2024-03-01T12:00:00.5").to_pydatetime(), pd.Timestamp("2024-01-01").to_pydatetime(), None],
    "day": [date(2024, 3, 1), None, date(2023, 12, 31)],
    "flag": [True, None, False],
    "real": [1.5, None, 2.0],
    "text": ["a", None, "2024-01-01"],
}


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in TYPES}


@pytest.mark.parametrize("date_format", ["epoch", "iso"])
def test_a_frame_of_pandas_is_read_in_every_form(date_format):
    split = json.loads(FRAME.to_json(orient="split", date_format=date_format))
    records = json.loads(FRAME.to_json(orient="records", date_format=date_format))
    by_column = {name: [row[name] for row in records] for name in TYPES}
    for given in ({"dataframe_split": split}, {"dataframe_records": records}, {"instances": records}, {"inputs": by_column}):
        assert columns(mlflow.rows_of(given, ROWS)) == EXPECTED
    tensors = [inference.Tensor(name, [3], "FP64", values) for name, values in by_column.items()]
    assert columns(inference.rows_of(inference.Inference(tensors), ROWS)) == EXPECTED


def test_what_mlflows_own_server_reads_is_read_the_same():
    from mlflow.pyfunc.scoring_server import infer_and_parse_data
    from mlflow.types.schema import ColSpec, Schema

    kinds = {"number": "double", "moment": "datetime", "naive": "datetime", "flag": "boolean", "real": "double", "text": "string"}
    rows = [
        {"number": 7.0, "moment": at, "naive": at, "flag": True, "real": 3, "text": "a"}
        for at in ("2024-03-01T12:00:00", "2024-03-01 12:00:00", "2024-03-01", "2024-03-01T12:00:00.000Z", 1709294400000000000)
    ]
    for row in rows:
        body = {"dataframe_records": [row]}
        theirs = infer_and_parse_data(body, Schema([ColSpec(kind, name) for name, kind in kinds.items()])).to_dict("records")[0]
        (ours,) = mlflow.rows_of(body, RowType("a row", {name: TYPES[name] for name in kinds}))
        assert ours["naive"] == pd.Timestamp(theirs["naive"]).to_pydatetime().replace(tzinfo=None)
        assert ours["moment"].replace(tzinfo=None) == ours["naive"]
        assert {name: ours[name] for name in ("number", "flag", "real", "text")} == {
            name: theirs[name] for name in ("number", "flag", "real", "text")
        }


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"number": 1.5}, "not whole"),
        ({"small": 256.0}, "too large"),
        ({"small": -1}, "too large or too small"),
        ({"number": 1e30}, "too large"),
        ({"moment": "soon"}, "no moment"),
        ({"moment": 1e300}, "no moment"),
        ({"day": "2024-03-01T12:00:00Z"}, "no date"),
        ({"flag": 2}, "true nor false"),
    ],
)
def test_what_is_none_of_that_is_told_by_field(row, said):
    with pytest.raises(Refused) as refused:
        mlflow.rows_of({"instances": [row]}, ROWS)
    ((found,),) = (refused.value.errors,)
    assert (found.row, found.field) == (0, *row)
    assert said in found.message
