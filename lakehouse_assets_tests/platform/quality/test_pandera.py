"""What the quality room relies on, or guards against, in Pandera. An upgrade that changes one of these fails here, by name."""

import pandera.errors
import pandera.polars as pa
import polars as pl
import pytest
from pandera.config import ValidationDepth, config_context

NAN = float("nan")


class Positive(pa.DataFrameModel):
    x: int = pa.Field(ge=0)


class Dropping(pa.DataFrameModel):
    x: int = pa.Field(ge=0)

    class Config:
        drop_invalid_rows = True
        strict = True
        unique = "x"


def test_data_checks_of_a_lazy_frame_are_skipped_in_silence():
    wrong = pl.LazyFrame({"x": [-1]})
    assert Positive.validate(wrong, lazy=True).collect().height == 1
    with config_context(validation_depth=ValidationDepth.SCHEMA_AND_DATA), pytest.raises(pandera.errors.SchemaErrors):
        Positive.validate(wrong, lazy=True)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(pl.DataFrame({"x": ["text"]}), id="wrong type"),
        pytest.param(pl.DataFrame({"y": [1]}), id="missing column"),
        pytest.param(pl.DataFrame({"x": [1], "y": [1]}), id="unknown column"),
        pytest.param(pl.DataFrame({"x": [1, 1]}), id="duplicate"),
    ],
)
def test_dropping_invalid_rows_lets_what_is_wrong_with_the_whole_table_through(wrong):
    assert Dropping.validate(wrong, lazy=True).equals(wrong)


def test_dropping_invalid_rows_does_drop_the_rows_themselves():
    assert Dropping.validate(pl.DataFrame({"x": [1, -1]}), lazy=True)["x"].to_list() == [1]


def test_not_nullable_also_means_no_nan():
    class Sample(pa.DataFrameModel):
        x: float

    with pytest.raises(pandera.errors.SchemaErrors) as errors:
        Sample.validate(pl.DataFrame({"x": [1.0, NAN, None]}), lazy=True)
    assert errors.value.failure_cases["index"].to_list() == [1, 2]


def test_a_check_called_on_a_frame_gives_one_answer_a_row_and_lets_nulls_pass():
    answers = pa.Check.ge(0)(pl.LazyFrame({"x": [1, -1, None]}), "x").check_output.collect()
    assert answers.to_series().to_list() == [True, False, True]


def test_a_check_that_does_not_ignore_nulls_answers_no():
    answers = pa.Check.ge(0, ignore_na=False)(pl.LazyFrame({"x": [1, None]}), "x").check_output.collect()
    assert answers.to_series().to_list() == [True, False]


def test_a_check_of_the_whole_column_gives_a_single_answer():
    answers = pa.Check.unique_values_eq({1})(pl.LazyFrame({"x": [1, 1, 1]}), "x").check_output.collect()
    assert answers.to_series().to_list() == [True]


def test_of_a_tuple_with_one_text_the_letters_are_allowed():
    (check,) = pa.Field(isin=("abc",)).checks
    answers = check(pl.LazyFrame({"x": ["abc", "a"]}), "x").check_output.collect()
    assert answers.to_series().to_list() == [False, True]


def test_optional_means_that_the_column_may_be_absent_not_that_values_may_be_missing():
    class Sample(pa.DataFrameModel):
        x: int | None

    declared = Sample.to_schema().columns["x"]
    assert (declared.required, declared.nullable) == (False, False)


def test_an_unknown_option_of_the_config_is_taken_for_a_check():
    class Sample(pa.DataFrameModel):
        x: int

        class Config:
            max_bad_share = 0.5

    with pytest.raises(AttributeError):
        Sample.to_schema()
