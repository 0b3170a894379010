"""What `lakehouse sql` may be asked, and that nothing else is answered: no file is read, nothing is written, no mask is dodged."""

import re
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.governance.audit import AuditLog
from lakehouse_assets.platform.governance.policy import Described, Policy
from lakehouse_assets.platform.governance.principal import Principal
from lakehouse_assets.platform.governance.reader import Notices, Reader
from lakehouse_assets.platform.governance.sql import QueryRefused, condition, parse, run_sql, select
from lakehouse_assets.platform.quality.masking import MASK, Personal
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

SALES, PEOPLE = "shop.gold.sales", "shop.silver.people"
MARKER = "MARKER_0a1b2c"
KNOWN = (SALES, PEOPLE)


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Reader:
    root = tmp_path_factory.mktemp("sql")
    lakehouse = Lakehouse(str(root / "tables"))
    sales = pl.DataFrame({"day": [date(2024, 1, d) for d in (1, 2, 3)], "shop": ["a", "b", "a"], "net": [1.5, 2.0, -1.0]})
    people = pl.DataFrame({"id": [1, 2], "name": ["Ada", "Bob"], "born": [1815, None], "shop": ["a", "b"], "tags": [["x"], ["y", "z"]]})
    for name, rows in ((SALES, sales), (PEOPLE, people)):
        lakehouse.table(name).create(rows.schema)
        lakehouse.table(name).append(rows)
    personal = Personal(frozenset({"name", "born"}), frozenset({"id", "shop", "tags"}))
    policy = Policy({SALES: Described(Personal()), PEOPLE: Described(personal)})
    return Reader(lakehouse, lambda: policy, Principal("tester"), AuditLog(root / "audit", pytest.fail), Notices(lambda _: None))


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("select sum(net) from shop.gold.sales", [(2.5,)]),
        ("SELECT SUM(net) AS n FROM Shop.Gold.Sales", [(2.5,)]),
        ('select sales.net from "shop.gold.sales" as sales order by 1 limit 1', [(-1.0,)]),
        ('select "shop"."gold"."sales".net from "shop"."gold"."sales" where net > 1.9;', [(2.0,)]),
        ("select shop.gold.sales.net from shop.gold.sales where shop.gold.sales.shop = 'b'", [(2.0,)]),
        ("select sales.net from shop.gold.sales where sales.shop = 'b' -- a comment", [(2.0,)]),
        ("select 'shop.gold.sales' as text, count(*) as n from shop.gold.sales /* shop.gold.sales */", [("shop.gold.sales", 3)]),
        ("with s as (select * from shop.gold.sales) select max(s.net) from s", [(2.0,)]),
        ("with sales as (select 7 as net) select net from sales", [(7,)]),
        ("select shop, sum(net) as n from shop.gold.sales group by shop having sum(net) > 1 order by shop", [("b", 2.0)]),
        ("select net from shop.gold.sales where shop in (select shop from shop.silver.people where id = 2)", [(2.0,)]),
        ("select net from shop.gold.sales union all select id from shop.silver.people order by net desc limit 2", [(2.0,), (2.0,)]),
        ("select p.id from shop.gold.sales s join shop.silver.people p on s.shop = p.shop where s.net = 2", [(2,)]),
        ("select id, net from shop.gold.sales join shop.silver.people using (shop) where net = 2", [(2, 2.0)]),
        ("select date_trunc('month', day)::date as m, count(*) as n from shop.gold.sales group by m", [(date(2024, 1, 1), 3)]),
        ("select extract(year from day) as y, cast(net as int) as i from shop.gold.sales where net = 2", [(2024, 2)]),
        ("select case when net < 0 then 'minus' else 'plus' end as s from shop.gold.sales where day = date '2024-01-03'", [("minus",)]),
        ("select id from shop.silver.people where array_contains(tags, 'z')", [(2,)]),
        ("select row_number() over (order by net desc) as r from shop.gold.sales where shop = 'a' order by r", [(1,), (2,)]),
        ("select coalesce(null, upper(shop)) as u from shop.gold.sales where shop like 'b%' or shop ilike 'B'", [("B",)]),
        ("select count(distinct shop) from shop.gold.sales where net between 0 and 5 and not shop is null", [(2,)]),
        ("select * exclude (day, net) from shop.gold.sales where net = 2", [("b",)]),
        ("select strftime(day, '%Y') as y, round(net, 1) as r, abs(-net) as a from shop.gold.sales where net = 2", [("2024", 2.0, 2.0)]),
        ("select id, born as b from shop.silver.people order by id desc nulls last", [(2, None), (1, None)]),
        ("select n from (select 1 as n union all select null as n) x order by n", [(1,), (None,)]),
        ("select n from (select 1 as n union all select null as n) x order by n desc", [(None,), (1,)]),
        ("select n from (select 1 as n union all select null as n) x order by n nulls first", [(None,), (1,)]),
        ("select n from (select 1 as n union all select null as n) x order by n desc nulls last", [(1,), (None,)]),
        ("select 1 + 1 as two", [(2,)]),
        ("(select net from shop.gold.sales where net = 2)", [(2.0,)]),
    ],
)  # fmt: skip
def test_what_an_analyst_asks_is_answered(reader, query, rows):
    assert run_sql(reader, query).rows() == rows


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("delete from shop.silver.people where name = 'Ada'", "DELETE was not carried out: `lakehouse sql` only reads"),
        ("truncate table shop.silver.people", "was not carried out"),
        ("drop table shop.silver.people", "DROP was not carried out"),
        ("create table x as select * from shop.silver.people", "CREATE was not carried out"),
        ("update shop.silver.people set shop = 'x'", "UPDATE was not carried out"),
        ("insert into shop.silver.people select * from shop.silver.people", "INSERT was not carried out"),
        ("explain select 1", "EXPLAIN was not carried out"),
        ("show tables", "SHOW was not carried out"),
        ("select 1; select 2", "2 statements were given"),
        ("", "0 statements were given"),
        ("select * from shop.gold.sale", "there is no table 'shop.gold.sale': did you mean shop.gold.sales?"),
        ("select * from sales", ": did you mean shop.gold.sales?"),
        ("select * from shop.gold.sales where", "cannot be parsed"),
        ("select nett from shop.gold.sales", "did you mean net?"),
        ("select * from read_csv('x')", "the function read_csv is not allowed: a query reads tables, not files"),
    ],
)  # fmt: skip
def test_what_is_refused_is_refused_by_name(reader, query, said):
    with pytest.raises(QueryRefused, match=re.escape(said)):
        run_sql(reader, query)


# --- hostile queries. FILE is the path of a file with a marker; its marker never comes back.

READS = (
    "read_csv",
    "READ_CSV",
    "Read_Parquet",
    "read_ipc",
    "read_json",
    "scan_csv",
    "scan_parquet",
    "parquet_scan",
    "read_csv_auto",
    "glob",
)
HOSTILE = [
    *(f"select * from {function}('FILE')" for function in READS),
    *(f"select {function}('FILE') from shop.gold.sales" for function in READS),
    "select * from 'FILE'",
    'select * from "FILE"',
    "select * from `FILE`",
    "select * from [FILE]",
    "select * from file('FILE')",
    "select * from/**/read_csv/**/(/**/'FILE'/**/)",
    "select * from read_csv--\n('FILE')",
    'select * from "read_csv"(\'FILE\')',
    "select * from shop.gold.read_csv('FILE')",
    "select * from shop.gold.sales('FILE')",
    "select * from shop.gold.sales, read_csv('FILE')",
    "select * from shop.gold.sales s, lateral read_csv('FILE')",
    "select * from shop.gold.sales cross join read_csv('FILE')",
    "select * from shop.gold.sales left join read_csv('FILE') f on true",
    "select * from (select * from read_csv('FILE')) x",
    "select (select a from read_csv('FILE') limit 1) from shop.gold.sales",
    "select * from shop.gold.sales where exists (select * from read_csv('FILE'))",
    "select * from shop.gold.sales where shop in (select a from read_csv('FILE'))",
    "select shop from shop.gold.sales union select a from read_csv('FILE')",
    "select shop from shop.gold.sales except select a from read_csv('FILE')",
    "with x as (select * from read_csv('FILE')) select * from x",
    'with "FILE" as (select 1 as a) select * from "FILE"',
    'select * from (with "FILE" as (select 1 as a) select * from "FILE") q, "FILE"',
    "with recursive x as (select * from read_csv('FILE') union all select * from x) select * from x",
    "with read_csv as (select 1 as a) select * from read_csv('FILE')",
    "with sales as (select * from 'FILE') select * from sales",
    "select 1; select * from read_csv('FILE')",
    "select 1 as a where 'x' = '\\'; select * from read_csv('FILE') --'",
    "select 'a\\' as x, * from read_csv('FILE') --'",
    "select E'a\\'b' as a, x.* from read_csv('FILE') x --'",
    "select $$a$$, x.* from read_csv($$FILE$$) x",
    "select /* a /* b */ * from read_csv('FILE') */ 1 as a",
    "select 1 /* */ as a from shop.gold.sales /*/ , read_csv('FILE') /*/",
    "select 1 as a --\r, x.* from read_csv('FILE') x",
    "select 1 as a # \n from read_csv('FILE')",
    "copy shop.gold.sales to 'FILE'",
    "copy (select * from read_csv('FILE')) to 'FILE.2'",
    "create table t as select * from read_csv('FILE')",
    "create view v as select * from read_csv('FILE')",
    "insert into shop.gold.sales select * from read_csv('FILE')",
    "set x = (select a from read_csv('FILE'))",
    "explain select * from read_csv('FILE')",
    "explain analyze select * from read_csv('FILE')",
    "describe read_csv('FILE')",
    "table read_csv('FILE')",
    "from read_csv('FILE')",
    "from 'FILE'",
    "values ((select a from read_csv('FILE')))",
    "select * from unnest((select a from read_csv('FILE')))",
    "select * from table(read_csv('FILE'))",
    "select * from shop.gold.sales pivot (max(net) for shop in (select a from read_csv('FILE')))",
    "select * from shop.gold.sales tablesample (select a from read_csv('FILE'))",
    "select * into x from read_csv('FILE')",
    "select * from shop.gold.sales limit (select count(*) from read_csv('FILE'))",
    "select * from shop.gold.sales order by (select a from read_csv('FILE'))",
    "select sum(net) over (order by (select a from read_csv('FILE'))) from shop.gold.sales",
    "select sum(net) filter (where exists (select 1 from read_csv('FILE'))) from shop.gold.sales",
    "select case when true then (select a from read_csv('FILE')) end from shop.gold.sales",
    "select * from read_csv('file://FILE')",
    "select * from \uff52ead_csv('FILE')",
    "select * from \u0280ead_csv('FILE')",
    "select * from\u00a0read_csv('FILE')",
    "select * from\u2028read_csv('FILE')",
    "select * from read_csv(\u2018FILE\u2019)",
    "select * from U&\"read\\005fcsv\"('FILE')",
    "attach 'FILE' as x",
    "load 'FILE'",
    "pragma read_csv('FILE')",
    "call read_csv('FILE')",
    "execute immediate 'select * from read_csv(''FILE'')'",
]  # fmt: skip


def test_there_are_hostile_queries_enough():
    assert len(set(HOSTILE)) >= 60


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("planted") / "secret.csv"
    path.write_text(f"a,b\n{MARKER},2\n")
    return path


def test_polars_itself_reads_files_by_a_query(planted):
    """Why queries are checked: if this fails, Polars has changed, and what it changed to has to be looked at."""
    assert MARKER in str(pl.SQLContext().execute(f"select * from read_csv('{planted}')", eager=True).rows())


@pytest.mark.parametrize("query", HOSTILE)
def test_a_hostile_query_reads_no_file(reader, planted, query):
    before = planted.read_bytes()
    try:
        answer = str(run_sql(reader, query.replace("FILE", str(planted))).rows())
    except QueryRefused as refused:
        answer = str(refused)
    assert MARKER not in answer
    assert planted.read_bytes() == before
    assert [path.name for path in planted.parent.iterdir()] == [planted.name]


PIECES = st.sampled_from([
    "select", "*", "from", "read_csv",
    "('FILE')", "'FILE'", '"FILE"', "shop.gold.sales", "shop", ".", "gold", ",", "(", ")", "with", "x", "as",
    "union", "all", "join", "on", "true",
    "where", "exists", "--", "\n", "/*", "*/", ";", "'", '"', "`", "\\", "$$", "E'", "lateral", "table",
    "1", "net", "in", "\u00a0", "limit", "order by", "::", "over", "[", "]", "copy", "to",
])  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, min_size=2, max_size=14))
def test_no_arrangement_of_pieces_reads_a_file(reader, planted, pieces):
    query = "select * from " + " ".join(pieces)
    try:
        answer = str(run_sql(reader, query.replace("FILE", str(planted))).rows())
    except QueryRefused as refused:
        answer = str(refused)
    assert MARKER not in answer


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=40))
def test_any_text_is_answered_or_refused_and_nothing_else(reader, text):
    with suppress(QueryRefused):
        run_sql(reader, text)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30))
def test_a_text_in_quotes_stays_that_text(reader, text):
    quoted = text.replace("'", "''")
    assert run_sql(reader, f"select '{quoted}' as x").rows() == [(text,)]


def test_only_the_tables_that_are_named_are_given():
    assert parse("select 1 from shop.gold.sales where 'shop.silver.people' <> ''", KNOWN).tables == (SALES,)


@pytest.mark.parametrize(
    ("text", "rows"),
    [("a = 'x'", 1), ("b in (1, 2) and a is not null", 2), ("array_contains(c, 'p') or a like 'y%'", 2), ("not (b > 1)", 1)],
)
def test_a_condition_chooses_rows(text, rows):
    frame = pl.DataFrame({"a": ["x", "y"], "b": [1, 2], "c": [["p"], []]})
    assert frame.filter(pl.sql_expr(condition(text))).height == rows


MOMENTS = pl.DataFrame({"at": [datetime(2024, 9, 1, 12, tzinfo=UTC), datetime(2024, 8, 1, tzinfo=UTC)], "day": [date(2024, 9, 1)] * 2})


@pytest.mark.parametrize("column", ["at", "day"])
@pytest.mark.parametrize(
    "value", ["timestamp '2024-08-15'", "'2024-08-15'", "'2024-08-15'::timestamp", "timestamptz '2024-08-15'", "date '2024-08-15'"]
)
def test_a_condition_about_time_is_answered_or_says_how_to_write_it(tmp_path, column, value):
    table = Lakehouse(str(tmp_path)).table("shop.gold.moments")
    table.create(MOMENTS.schema)
    table.append(MOMENTS)
    rows, text = table.scan(), f"{column} >= {value}"
    if value.startswith(("timestamptz", "date")):
        assert select(rows, (), text).collect().height == {"at": 1, "day": 2}[column]
    elif column == "day" and "timestamp" in value:
        assert select(rows, (), text).collect().height == 2
    else:
        with pytest.raises(QueryRefused, match=r"timestamptz '2024-09-01 12:00' \(UTC\), a date with date '2024-09-01'"):
            select(rows, (), text)


@pytest.mark.parametrize(
    "text",
    [
        "id in (select a from read_csv('FILE'))",
        "exists (select 1)",
        "true) union select 1 where (true",
        "true) from shop.gold.sales where (true",
        "read_csv('FILE') = 1",
        "true; select 1",
        "",
    ],
)
def test_a_condition_with_a_query_in_it_is_refused(text):
    with pytest.raises(QueryRefused):
        condition(text)


# --- personal data


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("select name, born from shop.silver.people order by id", [(MASK, None), (MASK, None)]),
        ("select count(*) as n from shop.silver.people where name = 'Ada'", [(0,)]),
        ("select count(*) as n from shop.silver.people where name like 'A%' or born > 1800", [(0,)]),
        ("select max(name) as m, min(born) as b from shop.silver.people", [(MASK, None)]),
        ("select substr(name, 1, 1) as s from shop.silver.people where id = 1", [(MASK[0],)]),
        ("select case when name = 'Ada' then 'yes' else 'no' end as x from shop.silver.people where id = 1", [("no",)]),
        ("select p.name as other from (select * from shop.silver.people) p where p.id = 1", [(MASK,)]),
        ("with q as (select name as n from shop.silver.people) select distinct n from q", [(MASK,)]),
        ("select id from shop.silver.people where name is not null order by name, id desc limit 1", [(2,)]),
        ("select count(*) as n from shop.silver.people where name in ('Ada', 'Bob')", [(0,)]),
        ("select count(*) as n from (select 'Ada' as name union all select name from shop.silver.people) x where name = 'Ada'", [(1,)]),
    ],
)  # fmt: skip
def test_a_query_sees_the_mask_and_not_the_value(reader, query, rows):
    assert run_sql(reader, query).rows() == rows


@pytest.mark.parametrize(
    "query",
    [
        "select a.id from shop.silver.people a join shop.silver.people b on a.name = b.name",
        "select a.id from shop.silver.people a join shop.silver.people b using (name)",
        "select a.id from shop.silver.people a join (select 'Ada' as who) b on lower(a.name) = b.who",
    ],
)
def test_tables_are_not_joined_by_masks(reader, query):
    with pytest.raises(QueryRefused, match="joins tables by name, which is personal"):
        run_sql(reader, query)
