"""Values as the world writes them, family by family: each text ends as the right value, as missing, or unread with the remedy.

A member is a text, how its column is read, and its end: a value, None for a missing one, or `unread(…)` with a part of the hint.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest

from lakehouse_assets.platform.quality.conform import boolean, choice, code, conform, day, money, number, text, timestamp, whole_number

SECONDS = "%Y-%m-%d %H:%M:%S"
DAY_FIRST, MONTH_FIRST = "%d/%m/%Y", "%m/%d/%Y"


@dataclass(frozen=True)
class Unread:
    hint: str


def unread(hint: str = "") -> Unread:
    return Unread(hint)


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def read(texts, column, files=None) -> pl.DataFrame:
    numbers = range(len(texts))
    frame = pl.LazyFrame({"x": texts, "_sequence": files or [1] * len(texts), "_row": numbers}, schema_overrides={"x": pl.String})
    return conform(frame, value=column).collect(engine="streaming")


def ends(made: pl.DataFrame) -> list:
    """Each row's value, or what it says of a text that was not read."""
    return [unread(hint or "") if unparsed else value for value, unparsed, hint in made.select("value", "_unparsed", "_hint").iter_rows()]


PLAIN = number("x")
GERMAN = number("x", decimal=",", thousands=".")
ENGLISH = number("x", thousands=",")
SPACES, APOSTROPHES = number("x", thousands=" "), number("x", thousands="'", decimal=".")
NUMBERS = [
    ("12.5", PLAIN, 12.5),
    (" -12.5 ", PLAIN, -12.5),
    ("+.5", PLAIN, 0.5),
    ("1e3", PLAIN, 1000.0),
    ("1E-05", PLAIN, 1e-05),
    ("1e-400", PLAIN, unread()),
    ("-0.1e-999", PLAIN, unread()),
    ("0e-400", PLAIN, 0.0),
    ("-0.00", PLAIN, 0.0),
    ("5e-324", PLAIN, 5e-324),
    ("9007199254740992", PLAIN, 2.0**53),
    ("9007199254740993", PLAIN, unread("whole_number('x') or money('x') does")),
    ("-9007199254740993", PLAIN, unread("whole_number('x') or money('x') does")),
    ("9.007.199.254.740.993", GERMAN, unread("whole_number('x') or money('x') does")),
    ("1152921504606846976", PLAIN, 2.0**60),
    ("1152921504606847000", PLAIN, 2.0**60),
    ("100000000000000000000", PLAIN, 1e20),
    ("1" + "0" * 5000, PLAIN, unread()),
    ("1,234.56", PLAIN, unread("number('x', thousands=',') reads it")),
    ("1.234,56", PLAIN, unread("number('x', decimal=',', thousands='.') reads it")),
    ("12,5", PLAIN, unread("number('x', decimal=',') reads it")),
    ("1,234", PLAIN, unread("thousands=',' or decimal=','")),
    ("(12.50)", PLAIN, unread("number('x', accounting=True) reads it")),
    ("12.50-", PLAIN, unread("number('x', accounting=True) reads it")),
    ("£12.50", PLAIN, unread("number('x', currency='£') reads it")),
    ("€1,234.50", PLAIN, unread("thousands=',', currency='€'")),
    ("12 %", PLAIN, unread("number('x', percent=True) reads it")),
    ("1 234.5", PLAIN, unread("number('x', thousands=' ') reads it")),
    ("1\u00a0234,5", PLAIN, unread("decimal=',', thousands=' '")),
    ("1'234.5", PLAIN, unread("number('x', thousands=\"'\") reads it")),
    ("12 pounds", PLAIN, unread()),
    ("#DIV/0!", PLAIN, unread()),
    ("inf", PLAIN, unread()),
    ("0x10", PLAIN, unread()),
    ("1_000", PLAIN, unread()),
    ("\uff11\uff12", PLAIN, unread()),
    ("1.2.3", PLAIN, unread()),
    ("1,234.56", ENGLISH, 1234.56),
    ("1,234,567", ENGLISH, 1234567.0),
    ("12,34", ENGLISH, unread("decimal=','")),
    ("1,23,456", ENGLISH, unread()),
    (",234", ENGLISH, unread()),
    ("1234.5", ENGLISH, 1234.5),
    ("1.234,56", GERMAN, 1234.56),
    ("12,5", GERMAN, 12.5),
    ("-1.234.567", GERMAN, -1234567.0),
    ("12.5", GERMAN, unread("decimal='.'")),
    ("1.234,5.6", GERMAN, unread()),
    ("12,5", number("x", decimal=","), 12.5),
    ("1.234", number("x", decimal=","), unread("thousands='.' or decimal='.'")),
    ("1 234 567.5", SPACES, 1234567.5),
    ("1\u00a0234", SPACES, 1234.0),
    ("1\u202f234", SPACES, 1234.0),
    ("1 23", SPACES, unread()),
    ("1'234'567.5", APOSTROPHES, 1234567.5),
    ("1\u2019234", APOSTROPHES, 1234.0),
    ("(12.50)", number("x", accounting=True), -12.5),
    ("12.50-", number("x", accounting=True), -12.5),
    ("(-12.50)", number("x", accounting=True), unread()),
    ("-12.50-", number("x", accounting=True), unread()),
    ("(12.50", number("x", accounting=True), unread()),
    ("-12.50", number("x", accounting=True), -12.5),
    ("£12.50", number("x", currency="£"), 12.5),
    ("-£12.50", number("x", currency="£"), -12.5),
    ("£-12.50", number("x", currency="£"), -12.5),
    ("12.50 £", number("x", currency="£"), 12.5),
    ("12.50", number("x", currency="£"), 12.5),
    ("$12.50", number("x", currency="£"), unread()),
    ("££12.50", number("x", currency="£"), unread()),
    ("EUR 1.234,50", number("x", decimal=",", thousands=".", currency=("EUR", "€")), 1234.5),
    ("(£1,234.50)", number("x", thousands=",", currency="£", accounting=True), -1234.5),
    ("12 %", number("x", percent=True), 0.12),
    ("12.5%", number("x", percent=True), 0.125),
    ("12", number("x", percent=True), unread()),
    ("7.0", whole_number("x"), 7),
    ("1,234", whole_number("x"), unread("whole_number('x')")),
    ("1,234", whole_number("x", thousands=","), 1234),
    ("1,234.0", whole_number("x", thousands=","), 1234),
    ("1.5", whole_number("x"), unread()),
    ("9007199254740993", whole_number("x"), 9007199254740993),
    ("9007199254740993.0", whole_number("x"), 9007199254740993),
    ("0.10", money("x"), Decimal("0.10")),
    ("1,234.5", money("x", thousands=","), Decimal("1234.50")),
    ("1.005", money("x"), unread()),
    ("1.500", money("x"), Decimal("1.50")),
    ("£1.50", money("x"), unread("money('x', currency='£')")),
    ("12345678901234567890", money("x"), unread()),
    ("12.5 %", money("x", scale=3, percent=True), Decimal("0.125")),
    ("12.55 %", money("x", scale=3, percent=True), unread()),
]

LONG = "X" * 100_000
CODES = [
    ("00012", code("x"), "00012"),
    ("12345.0", code("x"), "12345"),
    ("00012.00", code("x"), "00012"),
    ("100", code("x"), "100"),
    ("1.5", code("x"), "1.5"),
    ("V1.0", code("x"), "V1.0"),
    ("1.23E+12", code("x"), unread("export the column as text")),
    ("1,23E+12", code("x"), unread("export the column as text")),
    ("-1,23e+12", code("x"), unread("export the column as text")),
    ("1e+15", code("x"), unread("export the column as text")),
    ("1E5", code("x"), "1E5"),
    ("A+B", code("x"), "A+B"),
    ("  85123A\t", code("x"), "85123A"),
    ("\u00a085123A\u00a0", code("x"), "85123A"),
    ("\ufeff85123A", code("x"), "85123A"),
    ("85\u200b123A\u200b", code("x"), "85123A"),
    ("Jose\u0301", code("x"), "José"),
    ("ab-1", code("x"), "ab-1"),
    ("ab-1", code("x", case="upper"), "AB-1"),
    ("AB-1", code("x", case="lower"), "ab-1"),
    (LONG, code("x"), LONG),
    ("NA", code("x"), "NA"),
    ("nan", code("x", nulls=("nan",)), None),
    ("Ann\u200b", text("x"), "Ann"),
    ("\ufeffAnn", text("x"), "Ann"),
    ("Gro\u0308\u00dfe", text("x"), "Größe"),
    ("👩\u200d👩\u200d👧", text("x"), "👩\u200d👩\u200d👧"),
    ("a  b", text("x"), "a  b"),
]

NO_TEXT = (
    number("x"),
    whole_number("x"),
    money("x"),
    boolean("x"),
    day("x", formats=("%Y-%m-%d",)),
    timestamp("x", formats=(SECONDS,)),
)
MISSING = [
    *((word, column, None) for word in (None, "", "  ", "\u200b") for column in (*NO_TEXT, text("x"), code("x"))),
    *((word, column, None) for word in ("NULL", "N/A", "#N/A", "-", "None", "nan", "NaN", "\\N") for column in NO_TEXT),
    *((word, text("x"), word) for word in ("NULL", "N/A", "#N/A", "-", "None", "nan")),
    *((word, text("x", nulls=("NULL", "-")), None) for word in ("NULL", "-")),
    ("missing", number("x", nulls=("missing",)), None),
    ("#REF!", number("x"), unread()),
    ("?", whole_number("x"), unread()),
    ("YES", boolean("x"), True),
    ("0", boolean("x"), False),
    ("2", boolean("x"), unread("none of")),
    ("sí", boolean("x", true=("sí",), false=("no",)), True),
    ("gone", choice("x", options={"u": 1, "d": 2}), unread("it is none of 'u', 'd'")),
]


def moments(*formats, **options):
    return timestamp("x", formats=formats, **options)


LONDON = {"time_zone": "Europe/London"}
DATES = [
    ("2011-01-02 03:04:05", moments(SECONDS), at(2011, 1, 2, 3, 4, 5)),
    ("2011-02-29 00:00:00", moments(SECONDS), unread()),
    ("2011-01-02 24:00:00", moments(SECONDS), at(2011, 1, 3)),
    ("2011-12-31T24:00", moments("%Y-%m-%dT%H:%M"), at(2012, 1, 1)),
    ("2011-01-02 24:00:01", moments(SECONDS), unread()),
    ("2011-01-02", moments(SECONDS), unread("'%Y-%m-%d'")),
    ("02/01/11", moments(DAY_FIRST), unread("'%d/%m/%y'")),
    ("02/01/11", moments("%d/%m/%y"), at(2011, 1, 2)),
    ("02/01/69", moments("%d/%m/%y"), at(2069, 1, 2)),
    ("02/01/70", moments("%d/%m/%y"), at(1970, 1, 2)),
    ("0001-01-01 00:00:00", moments(SECONDS), at(1, 1, 1)),
    ("1900-01-01 00:00:00", moments(SECONDS), at(1900, 1, 1)),
    ("9999-12-31 23:59:59", moments(SECONDS), at(9999, 12, 31, 23, 59, 59)),
    ("20110-01-01 00:00:00", moments(SECONDS), unread()),
    ("2011-01-02T03:00:00+02:00", moments("%Y-%m-%dT%H:%M:%S%z"), at(2011, 1, 2, 1)),
    ("2011-01-02T03:00:00Z", moments("%Y-%m-%dT%H:%M:%S%z"), at(2011, 1, 2, 3)),
    ("2011-01-02T24:00:00-01:00", moments("%Y-%m-%dT%H:%M:%S%z"), at(2011, 1, 3, 1)),
    ("2011-01-02 03:00:00+02:00", moments(SECONDS), unread("%z")),
    ("45292", moments(SECONDS), unread("'excel-1900'")),
    ("45292", moments("excel-1900"), at(2024, 1, 1)),
    ("45292.25", moments("excel-1900"), at(2024, 1, 1, 6)),
    ("45292.354166666664", moments("excel-1900"), at(2024, 1, 1, 8, 30)),
    ("1", moments("excel-1900"), at(1900, 1, 1)),
    ("59", moments("excel-1900"), at(1900, 2, 28)),
    ("60", moments("excel-1900"), unread()),
    ("61", moments("excel-1900"), at(1900, 3, 1)),
    ("0", moments("excel-1900"), unread()),
    ("43830", moments("excel-1904"), at(2024, 1, 1)),
    ("1704067200", moments(SECONDS), unread("'unix-s'")),
    ("1704067200", moments("unix-s"), at(2024, 1, 1)),
    ("1704067200.25", moments("unix-s"), at(2024, 1, 1, 0, 0, 0, 250_000)),
    ("-1", moments("unix-s"), at(1969, 12, 31, 23, 59, 59)),
    ("1704067200000", moments("unix-s"), unread("'unix-ms'")),
    ("1704067200000", moments("unix-ms"), at(2024, 1, 1)),
    ("1704067200000001", moments("unix-us"), at(2024, 1, 1, 0, 0, 0, 1)),
    ("9" * 30, moments("unix-s", "excel-1900"), unread()),
    ("2024-07-01 12:00:00", moments(SECONDS, **LONDON), at(2024, 7, 1, 11)),
    ("2024-01-01 12:00:00", moments(SECONDS, **LONDON), at(2024, 1, 1, 12)),
    ("2024-03-31 01:30:00", moments(SECONDS, **LONDON), unread("went forward")),
    ("2024-10-27 01:30:00", moments(SECONDS, **LONDON), unread("ambiguous='earliest' or 'latest'")),
    ("2024-10-27 01:30:00", moments(SECONDS, **LONDON, ambiguous="earliest"), at(2024, 10, 27, 0, 30)),
    ("2024-10-27 01:30:00", moments(SECONDS, **LONDON, ambiguous="latest"), at(2024, 10, 27, 1, 30)),
    ("2024-03-31 01:30:00", moments(SECONDS, **LONDON, ambiguous="latest"), unread("went forward")),
    ("1704067200", moments("unix-s", **LONDON), at(2024, 1, 1)),
    ("2024-07-01 12:00:00+00:00", moments(f"{SECONDS}%z", **LONDON), at(2024, 7, 1, 12)),
    ("2024-01-02", day("x", formats=("%Y-%m-%d",)), date(2024, 1, 2)),
    ("45292", day("x", formats=("excel-1900",)), date(2024, 1, 1)),
    ("02/01/24", day("x", formats=(DAY_FIRST,)), unread("day('x', formats=(…, '%d/%m/%y'))")),
    ("9999-12-31", day("x", formats=("%Y-%m-%d",)), date(9999, 12, 31)),
]


@pytest.mark.parametrize("family", [NUMBERS, CODES, MISSING, DATES], ids=["numbers", "identifiers", "missing values", "dates and times"])
def test_each_member_has_its_end(family):
    wrong = []
    for given, column, end in family:
        made = read([given], column)
        (found,) = ends(made)
        told = isinstance(end, Unread) and isinstance(found, Unread) and end.hint in found.hint
        if isinstance(end, Unread) and isinstance(found, Unread):
            told &= json.loads(made["_unparsed"].item()) == {"value": given}
        if not told and (found != end or isinstance(found, Unread) or type(found) is not type(end)):
            wrong.append((given, column, end, found))
    assert not wrong


def test_a_member_is_read_the_same_among_others_of_its_column():
    """A batch has texts of all kinds: none of them changes what a plain one comes to."""
    for family in (NUMBERS, CODES, MISSING, DATES):
        for column in [column for at, (_, column, _) in enumerate(family) if column not in [other for _, other, _ in family[:at]]]:
            members = [(given, end) for given, other, end in family if other == column]
            found = ends(read([given for given, _ in members], column, files=list(range(len(members)))))
            assert [isinstance(end, Unread) or end == value for (_, end), value in zip(members, found, strict=True)] == [True] * len(
                members
            )


# --- what only a whole file tells

EITHER = moments(SECONDS, DAY_FIRST, MONTH_FIRST)


@pytest.mark.parametrize(
    ("column", "texts", "values"),
    [
        # One order is declared, and nothing speaks against it.
        (moments(DAY_FIRST), ["3/1/2011", "31/1/2011", "never"], [at(2011, 1, 3), at(2011, 1, 31), unread()]),
        # One order is declared, and a row that only the other reads speaks against it.
        (moments(DAY_FIRST), ["3/1/2011", "3/13/2011", "3/3/2011"], [unread("'%m/%d/%Y'"), unread("'%m/%d/%Y'"), at(2011, 3, 3)]),
        (moments(MONTH_FIRST), ["3/1/2011", "13/3/2011"], [unread("'%d/%m/%Y'"), unread("'%d/%m/%Y'")]),
        # Both are declared: the rows decide, or nothing does.
        (EITHER, ["3/1/2011", "3/13/2011"], [at(2011, 3, 1), at(2011, 3, 13)]),
        (EITHER, ["3/1/2011", "13/3/2011"], [at(2011, 1, 3), at(2011, 3, 13)]),
        (EITHER, ["3/1/2011", "3/2/2011", "4/4/2011"], [unread("alone"), unread("alone"), at(2011, 4, 4)]),
        (EITHER, ["3/1/2011", "13/3/2011", "3/13/2011"], [unread("alone"), at(2011, 3, 13), at(2011, 3, 13)]),
        (EITHER, ["2011-03-01 00:00:00", "3/13/2011", None], [at(2011, 3, 1), at(2011, 3, 13), None]),
        # Each shape of a date has its own order.
        (moments(DAY_FIRST, f"{MONTH_FIRST} %H:%M"), ["3/1/2011", "3/13/2011 9:15"], [at(2011, 1, 3), at(2011, 3, 13, 9, 15)]),
        (day("x", formats=("%d.%m.%y",)), ["01.02.24", "01.13.24"], [unread(), unread()]),
        # Decimal commas.
        (PLAIN, ["1.234", "0.125", "1234.5"], [1.234, 0.125, 1234.5]),
        (PLAIN, ["1.234", "12,5", "1.5", "0.125"], [unread("decimal=','"), unread("decimal=','"), 1.5, 0.125]),
        (PLAIN, ["1.234,50", "1.234"], [unread("decimal=','"), unread("decimal=','")]),
        (GERMAN, ["1.234", "12.5"], [unread("decimal='.'"), unread("decimal='.'")]),
        (ENGLISH, ["1,234", "12,5"], [unread("decimal=','"), unread("decimal=','")]),
        (whole_number("x"), ["1.000", "2.500"], [unread("decimal=','"), unread()]),
        (money("x", scale=3), ["1.234", "12,5"], [unread(), unread()]),
        # A hint is whole: what it says reads the value.
        (PLAIN, ["-£1,000"], [unread("say thousands=',', currency='£' or decimal=',', currency='£' in")]),
        (PLAIN, ["(1,234)"], [unread("say thousands=',', accounting=True or decimal=',', accounting=True in")]),
        (PLAIN, ["1,234"], [unread("say thousands=',' or decimal=',' in")]),
        (day("x", formats=("%Y-%m-%d",)), ["31/12/2025"], [unread("'%d/%m/%Y'")]),
        (day("x", formats=("%Y-%m-%d",)), ["12/31/2025"], [unread("'%m/%d/%Y'")]),
        (day("x", formats=("%Y-%m-%d",)), ["31-Dec-2025"], [unread("'%d-%b-%Y'")]),
    ],
)
def test_what_other_rows_of_a_file_contradict_is_not_believed(column, texts, values):
    found = ends(read(texts, column))
    for value, end in zip(found, values, strict=True):
        assert end.hint in value.hint if isinstance(end, Unread) else value == end


def test_files_of_one_batch_decide_each_for_itself():
    texts = ["3/1/2011", "3/1/2011", "3/13/2011", "13/3/2011", "3/1/2011"]
    found = ends(read(texts, EITHER, files=[1, 2, 1, 2, 3]))
    assert found[:4] == [at(2011, 3, 1), at(2011, 1, 3), at(2011, 3, 13), at(2011, 3, 13)]
    assert isinstance(found[4], Unread)
    together = ends(read(["1.234", "1.234", "12,5"], PLAIN, files=[1, 2, 2]))
    assert together[0] == 1.234
    assert all(isinstance(end, Unread) for end in together[1:])


def test_a_filter_behind_conform_does_not_hide_the_rows_that_decide():
    frame = pl.LazyFrame({"x": ["3/1/2011", "3/13/2011"], "_sequence": [1, 1], "_row": [1, 2]})
    made = conform(frame, value=EITHER).filter(pl.col("_row") == 1).collect()
    assert made["value"].to_list() == [at(2011, 3, 1)]


def test_a_hint_quotes_no_value():
    texts = ["£12.50", "12,5", "1.23E+12", "3/13/2011", "2024-03-31 01:30:00"]
    for column in (PLAIN, code("x"), moments(DAY_FIRST), moments(SECONDS, **LONDON), boolean("x"), whole_number("x")):
        made = read(texts, column).drop_nulls("_hint")
        assert not [hint for given, hint in zip(texts, made["_hint"], strict=False) if given in hint]


def test_hints_name_their_columns():
    frame = pl.LazyFrame({"a": ["12,5", "1"], "b": ["x", "2024-01-01"]})
    made = conform(frame, amount=number("a"), when=day("b", formats=("%d/%m/%Y",))).collect()
    assert made["_hint"].to_list() == [
        "amount: number('a', decimal=',') reads it",
        "when: day('b', formats=(…, '%Y-%m-%d')) reads it",
    ]


@pytest.mark.parametrize(
    "declare",
    [
        lambda: number("x", decimal=";"),
        lambda: number("x", thousands="."),
        lambda: whole_number("x", thousands="x"),
        lambda: timestamp("x", formats="%Y-%m-%d"),
        lambda: day("x", formats=()),
        lambda: day("x", formats=("excel",)),
    ],
)
def test_options_that_mean_nothing_are_refused(declare):
    with pytest.raises(ValueError, match=re.compile("^(number|whole_number|timestamp|day): ")):
        declare()
