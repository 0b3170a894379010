"""JSON Lines: every line is one row, numbers keep their digits, and a line that is no object is kept whole."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.ingestion.header import Expected
from lakehouse_assets.platform.ingestion.parse import RefusedFile, parse
from lakehouse_assets.platform.ingestion.records import RESCUED, ROW


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("landing") / "a.jsonl"


def bronze(path, content: str, columns=("a", "b"), required=()) -> pl.DataFrame:
    path.write_bytes(content.encode())
    parsed = parse(path, columns=columns, required=required)
    frame = parsed.frame.collect()
    assert parsed.rows == frame.height
    assert frame[ROW].to_list() == list(range(1, frame.height + 1))
    return frame.drop(ROW)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"x \\"y\\" \\u00e9 \\ud83d\\ude00"', 'x "y" é 😀'),
        ('""', ""),
        ("7", "7"),
        ("-0", "-0"),
        ("1.10", "1.10"),
        ("1E5", "1E5"),
        ("12345678901234567890.123456789", "12345678901234567890.123456789"),
        ("9" * 5000, "9" * 5000),
        ("NaN", "NaN"),
        ("true", "true"),
        ("false", "false"),
        ("null", None),
        ("[]", "[]"),
        ('{ "x": [1.50, null, true, "é\\n"], "1": {} }', '{"x":[1.50,null,true,"é\\n"],"1":{}}'),
    ],
)
def test_values_as_text(path, value, text):
    frame = bronze(path, f'{{"a": {value}, "extra": {value}}}\n')
    assert frame["a"].item() == text
    assert frame["b"].item() is None
    assert frame[RESCUED].item() == (
        None if text is None else json.dumps({"_columns": {"extra": text}}, ensure_ascii=False, separators=(",", ":"))
    )


@pytest.mark.parametrize(
    "line",
    [
        '{"a": 1',
        '{"a": 1} x',
        '{"a": 1}{"a": 2}',
        "{'a': 1}",
        "null",
        '[{"a": 1}]',
        '"text"',
        '{"a": 1, "a": 2}',
        '{"a": {"x": 1, "x": 1}}',
        '{"a": "\\ud800"}',
        '{"a": "\t"}',
        "[" * 100_000,
        "é",
    ],
)
def test_line_that_is_no_object_is_kept_whole_and_costs_no_other_row(path, line):
    frame = bronze(path, f'{{"a": 1}}\r\n{line}\r\n{{"a": 2}}\r\n')
    assert frame["a"].to_list() == ["1", None, "2"]
    assert json.loads(frame[RESCUED][1]) == {"_line": line}
    assert frame[RESCUED].null_count() == 2


@pytest.mark.parametrize("depth", [10, 200, 400, 600, 900, 5000])
def test_deeply_nested_value_is_text_or_its_line_is_kept(path, depth):
    value = '{"x":' * depth + "1" + "}" * depth
    line = f'{{"a":{value}}}'
    text, _, rescued = bronze(path, f'{line}\n{{"a":2}}\n').row(0)
    assert text == value or json.loads(rescued) == {"_line": line}


def test_blank_lines_are_no_records_and_the_last_needs_no_newline(path):
    assert bronze(path, '\n{"a": 1}\n\r\n \n{"a": 2}')["a"].to_list() == ["1", "2"]
    assert bronze(path, "\n \r\n", required=[["a"]]).height == 0


def test_only_a_newline_ends_a_line(path):
    assert bronze(path, '{"a": "x\u2028y\u0085z"}\n')["a"].to_list() == ["x\u2028y\u0085z"]


def test_undeclared_keys_of_each_line_are_rescued(path):
    frame = bronze(path, '{"a":1,"x":null}\n{"b":2,"y":"z","x":{"n":1.0}}\n{"_line":3}\n')
    assert frame.rows() == [
        ("1", None, None),
        (None, "2", '{"_columns":{"y":"z","x":"{\\"n\\":1.0}"}}'),
        (None, None, '{"_columns":{"_line":"3"}}'),
    ]


def test_required_keys_may_be_spread_over_lines(path):
    assert bronze(path, '{"a":1}\n{"b":2}\n', required=[["a", "b"]]).height == 2
    with pytest.raises(RefusedFile, match="lacks 'c'; it has 'a', 'b' instead"):
        bronze(path, '{"a":1}\n{"b":2}\n', required=[["c"]])


@pytest.mark.parametrize("content", ["a,b\n1,2\n", '[{"a": 1}, {"a": 2}\n', "{}\n", '{"a":1}\r{"a":2}\r'])
def test_file_without_a_single_object_is_refused(path, content):
    with pytest.raises(RefusedFile, match=r"a\.jsonl: no line is a JSON object"):
        bronze(path, content)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"a": "\\ud800"}', "half a surrogate pair"),
        ('{"a": 1, "a": 2}', "names a key twice"),
        ("[" * 100_000, "nested too deeply"),
        ("a,b", "no JSON (Expecting value at character 1)"),
        ("7", "no JSON object"),
        ("{}", "an object without keys"),
    ],
)
def test_a_file_of_which_no_line_is_read_is_refused_with_the_reason_of_its_first(path, line, reason):
    with pytest.raises(RefusedFile) as refused:
        bronze(path, f"{line}\n" * 5)

    assert reason in str(refused.value).partition("record 1 is ")[2].partition("; record 2")[0]
    assert "record 4" not in str(refused.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None)
@given(records=st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]) | st.text(max_size=3), JSON, min_size=1, max_size=4), max_size=5))
@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_what_the_json_module_writes_comes_back(path, records, ensure_ascii):
    frame = bronze(path, "\n".join(json.dumps(record, ensure_ascii=ensure_ascii) for record in records) + "\n")
    for record, row in zip(records, frame.iter_rows(named=True), strict=True):
        texts = {**row, **json.loads(row[RESCUED] or "{}").get("_columns", {})}
        for key, value in zip(Expected(("a", "b")).recognised(list(record)), record.values(), strict=True):
            if isinstance(value, str) or value is None:
                assert texts.get(key) == value
            else:
                assert json.loads(texts[key]) == value
