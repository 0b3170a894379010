"""MLflow's protocol and the Open Inference Protocol, as their clients send them, and what both say of what they cannot take."""

import json

import pytest

from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.till import INPUTS, Till, constant, listening, settings_in, until

ROWS = INPUTS.to_dicts()
SPLIT = {"columns": INPUTS.columns, "data": [list(row) for row in INPUTS.iter_rows()]}
COLUMNS = INPUTS.to_dict(as_series=False)


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    till = Till(settings_in(tmp_path_factory.mktemp("till")))
    till.promote(till.add(constant(0.75)))
    service = till.service()
    with listening(service) as address:
        until(lambda: service.served["receipts"].versions is not None)
        made = Connection(address)
        yield made
        made.close()


FOUR = [
    {"dataframe_split": SPLIT},
    {"dataframe_split": SPLIT | {"index": [0, 1]}},
    {"dataframe_records": ROWS},
    {"instances": ROWS},
    {"inputs": COLUMNS},
    {"inputs": COLUMNS, "params": {}},
]


@pytest.mark.parametrize("body", FOUR)
@pytest.mark.parametrize("path", ["/invocations", "/endpoints/receipts/invocations"])
def test_the_four_inputs_of_mlflow_are_scored(connection, body, path):
    status, answer = connection.post(path, body)
    assert status == 200, answer
    assert [(row["probability"], row["decision"]) for row in answer["predictions"]] == [(0.75, "hold")] * 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"rows": ROWS}, None),
        ({"instances": ROWS, "inputs": COLUMNS}, None),
        ({"instances": [{"amount": "1"}]}, "amount"),
        ({"instances": [{**ROWS[0], "more": 1}]}, "more"),
        ({"instances": 3}, "instances"),
        ({"inputs": [1]}, "inputs"),
        ({"inputs": {**COLUMNS, "amount": [1.0]}}, None),
        ({"dataframe_split": {"columns": ["amount"], "data": [[1, 2]]}}, "dataframe_split"),
        ({"dataframe_split": {"columns": "amount", "data": []}}, "dataframe_split"),
        ([], None),
    ],
)
def test_mlflow_inputs_that_do_not_fit_are_told_by_field(connection, body, field):
    status, answer = connection.post("/invocations", body)
    assert status == 422, answer
    if field is not None:
        assert answer["errors"][0]["field"] == field


def test_mlflow_clients_ask_whether_it_is_there(connection):
    assert connection.get("/ping")[0] == 200
    status, version = connection.get("/endpoints/receipts/version")
    assert (status, version[0]) == (200, "3")
    assert connection.post("/endpoints/nothing/invocations", {})[0] == 404


def tensors(shape=lambda count: [count]) -> list[dict]:
    kinds = {"amount": "FP64", "each": "FP64", "shop": "BYTES", "has_note": "BOOL", "shop_returns": "FP64"}
    return [{"name": name, "shape": shape(len(one)), "datatype": kinds[name], "data": one} for name, one in COLUMNS.items()]


@pytest.mark.parametrize("path", ["/v2/models/receipts/infer", "/v2/models/receipts/versions/1/infer"])
def test_the_open_inference_protocol_is_answered(connection, path):
    status, answer = connection.post(path, {"id": "mine", "inputs": tensors()})
    assert status == 200, answer
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("receipts", "1", "mine")
    outputs = {one["name"]: one for one in answer["outputs"]}
    assert outputs["probability"] == {"name": "probability", "shape": [2], "datatype": "FP64", "data": [0.75, 0.75]}
    assert outputs["decision"]["datatype"] == "BYTES"
    _, some = connection.post(path, {"inputs": tensors(lambda count: [count, 1]), "outputs": [{"name": "probability"}]})
    assert [one["name"] for one in some["outputs"]] == ["probability"]
    assert outputs["model_version"] == {"name": "model_version", "shape": [2], "datatype": "INT64", "data": [1, 1]}
    assert answer["parameters"]["request_id"] != "mine"
    status, told = connection.post(path, {"inputs": tensors(), "outputs": [{"name": "probability"}, {"name": "probabilty"}]})
    assert (status, told["errors"][0]["field"], "Did you mean probability?" in told["errors"][0]["message"]) == (400, "probabilty", True)


@pytest.mark.parametrize("sent", [["r1", "r2"], [None, "r2"], ["r1", None], [None, None]])
def test_a_column_that_one_row_did_not_send_is_null_there_and_given_for_the_others(connection, sent):
    inputs = [*tensors(), {"name": "receipt", "shape": [2], "datatype": "BYTES", "data": sent}]
    status, answer = connection.post("/v2/models/receipts/infer", {"inputs": inputs})
    assert status == 200, answer
    outputs = {one["name"]: one["data"] for one in answer["outputs"]}
    assert outputs.get("receipt", [None, None]) == sent
    assert outputs["probability"] == [0.75, 0.75]


def test_the_open_inference_protocol_describes_the_model(connection):
    assert connection.get("/v2")[1]["name"] == "lakehouse-assets"
    assert connection.get("/v2/health/live") == (200, {"live": True})
    assert connection.get("/v2/health/ready") == (200, {"ready": True})
    status, model = connection.get("/v2/models/receipts")
    assert (status, model["name"], model["versions"]) == (200, "receipts", ["1"])
    assert {"name": "amount", "datatype": "FP64", "shape": [-1]} in model["inputs"]
    assert {"name": "probability", "datatype": "FP64", "shape": [-1]} in model["outputs"]
    assert connection.get("/v2/models/receipts/ready") == (200, {"name": "receipts", "ready": True})
    assert {"name": "model_version", "datatype": "INT64", "shape": [-1]} in model["outputs"]
    for path in ("/v2/models/receipts/versions/7", "/v2/models/receipts/versions/7/ready"):
        assert connection.get(path)[0] == 404
    assert connection.post("/v2/models/receipts/versions/7/infer", {"inputs": tensors()})[0] == 404
    assert connection.get("/v2/models/receipts/versions/1/ready")[0] == 200
    assert connection.get("/v2/models/nothing")[0] == 404


def without(name: str, /, **changes) -> list[dict]:
    return [one if one["name"] != name else one | changes for one in tensors()]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None),
        ({"inputs": []}, "inputs"),
        ({"inputs": without("amount", shape=[3])}, "amount"),
        ({"inputs": without("amount", shape=[])}, "amount"),
        ({"inputs": without("amount", shape=[2, 2])}, "amount"),
        ({"inputs": without("amount", data=["a", "b"])}, "amount"),
        ({"inputs": without("amount", name="nothing")}, "nothing"),
        ({"inputs": [*tensors(), tensors()[0]]}, "amount"),
        ({"inputs": [{"name": "amount"}]}, None),
    ],
)
def test_tensors_that_do_not_fit_are_told_by_field(connection, body, field):
    status, answer = connection.post("/v2/models/receipts/infer", body)
    assert status == 422, answer
    assert "Traceback" not in json.dumps(answer)
    if field is not None:
        assert answer["errors"][0]["field"] == field


def test_who_answered_each_row_is_said_where_a_challenger_has_its_share(tmp_path):
    till = Till(settings_in(tmp_path))
    champion, challenger = till.add(constant(0.25)), till.add(constant(0.75))
    till.promote(champion)
    till.challenge(challenger)
    service = till.service(challenger=0.5)
    with listening(service) as address, Connection(address) as own:
        until(lambda: (versions := service.served["receipts"].versions) is not None and versions.challenger is not None)
        assert own.get("/v2/models/receipts")[1]["versions"] == [str(champion), str(challenger)]
        assert own.get(f"/v2/models/receipts/versions/{challenger}")[0] == 200
        assert own.post(f"/v2/models/receipts/versions/{challenger}/infer", {"inputs": tensors()})[0] == 404
        seen = set()
        for number in range(30):  # whichever of the two answers the first row
            keys = {"receipt": [f"r{2 * number}", f"r{2 * number + 1}"], "at": ["2024-03-01T12:00:00Z"] * 2}
            named = [{"name": name, "shape": [2], "datatype": "BYTES", "data": one} for name, one in keys.items()]
            status, answer = own.post("/v2/models/receipts/infer", {"inputs": [*tensors(), *named]})
            assert (status, answer["model_version"]) == (200, str(champion))
            outputs = {one["name"]: one["data"] for one in answer["outputs"]}
            said = dict(zip(outputs["model_version"], outputs["probability"], strict=True))
            assert said.items() <= {champion: 0.25, challenger: 0.75}.items()
            seen.add(tuple(outputs["model_version"]))
        assert len(seen) == 4


def test_a_method_that_a_path_does_not_take_is_told_with_those_it_takes(connection):
    _, document = connection.get("/openapi.json")
    paths = [
        *document["paths"],
        "/",
        "/openapi.json",
        "/features/till.features.shops",
        "/endpoints/receipts/ping",
        "/endpoints/receipts/version",
    ]
    paths += ["/v2/models/receipts/versions/1", "/v2/models/receipts/versions/1/ready", "/v2/models/receipts/versions/1/infer"]
    for path in paths:
        methods = document["paths"].get(path, {"get": None})
        if path.endswith("infer"):
            methods = {"post": None}
        for method in ("GET", "POST", "PUT", "DELETE"):
            if method.lower() in methods:
                continue
            connection._connection.request(method, path, b"{}" if method == "POST" else None, {"Content-Type": "application/json"})
            answer = connection._connection.getresponse()
            told = json.loads(answer.read())
            assert answer.status == 405, (method, path)
            assert {one.strip().lower() for one in answer.headers["Allow"].split(",")} - {"head"} == set(methods), (method, path)
            assert told["errors"][0]["message"]
