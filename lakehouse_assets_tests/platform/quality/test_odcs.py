"""Contracts in the Open Data Contract Standard: valid by its schema, and held against what others promise."""

import copy
import json
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import Annotated

import jsonschema
import polars as pl
import pytest
import yaml
from open_data_contract_standard.model import OpenDataContractStandard

from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column, fingerprint, rule, schema_of
from lakehouse_assets.platform.quality.odcs import Described, odcs
from lakehouse_assets.platform.quality.odcs_check import compare, read_document

TABLE = "shop.silver.orders"


class Order(Contract, fresh_by="placed_at", fresh_within=timedelta(hours=36), max_bad_rows=100):
    """One row per order."""

    order: str = column(key=True, description="Number of the order", str_matches=r"^\d+$")
    month: date = column(key=True, ge=date(2009, 1, 1))
    placed_at: Timestamp = column(lt=datetime(2030, 1, 1, tzinfo=UTC))
    items: int = column(ge=1, lt=100)
    share: float = column(nullable=True, in_range=(0, 1))
    total: Annotated[pl.Decimal, 18, 2]
    email: str = column(personal=True, nullable=True, str_length=(3, 80))
    country: str = column(isin=["France", "Spain"], level="warn")
    product: str = column(nullable=True, references="shop.silver.products.code")
    tags: list[str] = column(nullable=True)
    state: str = column(notin=["it's"], ne="x", str_startswith="s")

    paid = rule("an order with items is paid", (pl.col("items") == 0) | (pl.col("total") > 0), level="fail")


def exported(**changes):
    told = {
        "table": TABLE,
        "description": "Orders of the shop.",
        "owner": "team:shop",
        "schema": schema_of(Order) | {"repeats": pl.List(pl.Struct({"sequence": pl.Int64()}))},
        "key": ("month", "order"),
        "partition_by": ("month",),
        "location": "/data/tables/shop/silver/orders",
    }
    return odcs(Order, Described(**told | changes))


@pytest.mark.parametrize(
    "changes", [{}, {"owner": "somebody@example.com"}, {"location": "s3://bucket/tables/orders"}, {"location": "gs://bucket/orders"}]
)
def test_the_export_is_valid_by_the_standard_s_own_schema(changes):
    text = yaml.safe_dump(exported(**changes), sort_keys=False, allow_unicode=True)
    schema = json.loads((files("open_data_contract_standard") / "schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft201909Validator(schema).validate(yaml.safe_load(text))
    read = OpenDataContractStandard.from_string(text)
    assert (read.apiVersion, read.kind, read.version) == ("v3.1.0", "DataContract", fingerprint(Order))
    assert [part.name for part in read.schema_[0].properties] == [*schema_of(Order), "repeats"]


def properties(document):
    return {part["name"]: part for part in document["schema"][0]["properties"]}


def checks(part):
    return {found["name"]: found for found in part["quality"]}


def test_columns_say_type_key_partition_and_personal_data():
    found = properties(exported())
    assert (found["month"]["primaryKeyPosition"], found["month"]["partitionKeyPosition"]) == (1, 1)
    assert found["order"]["primaryKeyPosition"] == 2
    assert found["email"]["classification"] == "personal"
    assert [found[name]["logicalType"] for name in ("order", "month", "placed_at", "items", "total", "tags", "repeats")] == [
        "string",
        "date",
        "timestamp",
        "integer",
        "number",
        "array",
        "array",
    ]
    assert found["total"]["physicalType"] == "decimal(18,2)"
    assert found["repeats"]["physicalType"] == "array<struct<sequence:long>>"
    assert found["items"]["logicalTypeOptions"] == {"minimum": 1, "exclusiveMaximum": 100}
    assert found["product"]["relationships"] == [{"type": "foreignKey", "to": "shop.silver.products.code"}]
    assert "partitioned" not in found["order"]


def test_rules_are_spelled_with_the_library_where_it_has_a_metric():
    found = properties(exported())
    assert checks(found["items"])["items_not_null"] | {"description": ""} == {
        "name": "items_not_null",
        "description": "",
        "dimension": "completeness",
        "severity": "error",
        "type": "library",
        "metric": "nullValues",
        "mustBe": 0,
    }
    country = checks(found["country"])["country_isin"]
    assert (country["metric"], country["arguments"], country["severity"]) == (
        "invalidValues",
        {"validValues": ["France", "Spain"]},
        "warning",
    )
    assert checks(found["order"])["order_matches"]["arguments"] == {"pattern": r"^\d+$"}
    table = checks(exported()["schema"][0])
    assert table["key_unique"]["arguments"] == {"properties": ["month", "order"]}
    assert (table["paid"]["type"], table["paid"]["severity"]) == ("custom", "fail")


def test_comparisons_are_sql_that_counts_broken_rows():
    state = checks(properties(exported())["state"])
    frame = pl.DataFrame({"state": ["s", "it's", "x", None]})
    for name, broken in (("state_notin", 1), ("state_ne", 1)):
        query = state[name]["query"].replace("${table}", "frame").replace("${column}", "state")
        assert pl.SQLContext(frame=frame).execute(query).collect().item() == broken


def test_freshness_is_a_service_level():
    (sla,) = exported()["slaProperties"]
    assert (sla["property"], sla["value"], sla["unit"], sla["element"]) == ("freshness", 36.0, "h", "shop.silver.orders.placed_at")


# --- what others promise


def broken(promised) -> list[str]:
    ours = exported()
    return [f"{f.where} {f.text}" for f in compare(promised["schema"][0], ours["schema"][0], promised, ours) if f.broken]


def notes(promised) -> list[str]:
    ours = exported()
    return [f"{f.where} {f.text}" for f in compare(promised["schema"][0], ours["schema"][0], promised, ours) if not f.broken]


def test_a_table_keeps_what_its_own_export_promises():
    assert broken(exported()) == []
    assert notes(exported()) == []


def document(*columns, **more):
    return {"apiVersion": "v3.1.0", "kind": "DataContract", "schema": [{"name": TABLE, "properties": list(columns), **more}]}


@pytest.mark.parametrize(
    ("promised", "said"),
    [
        ({"name": "color", "logicalType": "string"}, "the table does not have it"),
        ({"name": "items", "logicalType": "string"}, "is promised as string and is integer"),
        ({"name": "total", "physicalType": "DOUBLE"}, "stored as decimal(18,2)"),
        ({"name": "share", "required": True}, "is promised to have no nulls"),
        ({"name": "order", "primaryKey": True}, "the key is order, month"),
        ({"name": "order", "unique": True}, "is promised to be unique"),
        ({"name": "items", "logicalTypeOptions": {"minimum": 2}}, "is promised with minimum 2"),
        ({"name": "items", "logicalTypeOptions": {"maximum": 98}}, "is promised with maximum 98"),
        ({"name": "items", "logicalTypeOptions": {"exclusiveMinimum": 1}}, "is promised with exclusiveMinimum 1"),
        ({"name": "email", "logicalTypeOptions": {"minLength": 4}}, "minLength 4"),
        ({"name": "order", "logicalTypeOptions": {"pattern": "^[0-9]{6}$"}}, "pattern"),
        ({"name": "order", "relationships": [{"to": "shop.silver.bills.order"}]}, "is promised to reference"),
        ({"name": "share", "quality": [{"metric": "nullValues", "mustBe": 0}]}, "'nullValues' is promised"),
        ({"name": "order", "quality": [{"metric": "duplicateValues", "mustBeLessThan": 1}]}, "'duplicateValues' is promised"),
        (
            {"name": "country", "quality": [{"metric": "invalidValues", "arguments": {"validValues": ["France", "Spain"]}, "mustBe": 0}]},
            "'invalidValues' is promised",  # the contract only warns of it
        ),
        (
            {"name": "items", "quality": [{"type": "custom", "engine": "lakehouse-assets", "implementation": {"rule": "x"}, "name": "x"}]},
            "'x' is promised",
        ),
    ],
)
def test_a_promise_that_is_not_kept_is_named(promised, said):
    (found,) = broken(document(promised))
    assert found.startswith(promised["name"])
    assert said in found


@pytest.mark.parametrize(
    "promised",
    [
        {"name": "items", "logicalType": "number", "required": True},
        {"name": "number", "physicalName": "order", "logicalType": "string"},
        {"name": "items", "logicalTypeOptions": {"minimum": 0, "maximum": 100}},
        {"name": "items", "logicalTypeOptions": {"exclusiveMinimum": 0}},
        {"name": "month", "logicalTypeOptions": {"minimum": "2008-12-31", "format": "yyyy-MM-dd"}},
        {"name": "month", "logicalTypeOptions": {"minimum": date(2009, 1, 1)}},
        {"name": "items", "quality": [{"metric": "nullValues", "mustBeLessOrEqualTo": 5}]},
        {
            "name": "country",
            "quality": [
                {
                    "metric": "invalidValues",
                    "severity": "warning",
                    "arguments": {"validValues": ["France", "Spain", "Italy"]},
                    "mustBe": 0,
                }
            ],
        },
    ],
)
def test_a_promise_that_is_kept_with_something_to_spare_is_kept(promised):
    assert broken(document(promised)) == []


def test_a_key_together_with_more_columns_is_unique_too():
    wider = [{"name": name, "primaryKey": True} for name in ("order", "month", "items")]
    assert broken(document(*wider)) == []
    table = {"quality": [{"metric": "duplicateValues", "arguments": {"properties": ["month", "order", "items"]}, "mustBe": 0}]}
    assert broken(document(**table)) == []


@pytest.mark.parametrize(
    ("sla", "kept"),
    [((36, "h"), True), ((2, "days"), True), ((1, "d"), False), ((24, "h"), False)],
)
def test_freshness_is_references_now_the_contract_s(sla, kept):
    promised = document() | {"slaProperties": [{"property": "freshness", "value": sla[0], "unit": sla[1]}]}
    assert (broken(promised) == []) is kept


def test_what_has_no_counterpart_is_said_and_breaks_nothing():
    promised = document(
        {"name": "items", "quality": [{"type": "text", "description": "looks nice"}, {"type": "sql", "query": "SELECT 1", "mustBe": 1}]},
        quality=[{"metric": "rowCount", "mustBeGreaterThan": 5}],
    )
    assert broken(promised) == []
    said = "\n".join(notes(promised))
    assert "'looks nice' has no counterpart" in said
    assert "'rowCount' has no counterpart" in said
    assert "month is in the table and nobody promises it" in said


def test_nested_columns_are_compared():
    promised = copy.deepcopy(exported())
    properties(promised)["repeats"]["items"]["properties"][0]["logicalType"] = "string"
    assert broken(promised) == ["repeats[].sequence is promised as string and is integer"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is no YAML"),
        ("just text", "is no data contract"),
        ("kind: Other\nschema: []", "is no data contract"),
        ("kind: DataContract\napiVersion: v2.2.2\nschema: []", "version 3"),
    ],
)
def test_a_file_that_is_no_data_contract_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        read_document(text, "mine.yaml")
