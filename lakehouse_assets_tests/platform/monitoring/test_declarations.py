"""What a monitor cannot mean is refused by name, with the place and the remedy; what it can mean writes no table of its own."""

import re
from dataclasses import fields
from datetime import date, timedelta

import pytest

from lakehouse_assets import AlertRule, Contract, Freshness, Upsert, Volume, column, monitor, products, table
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.check_names import OTHER_CHECKS
from lakehouse_assets.platform.declarations.monitors import Monitor, Verdict
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.monitoring.kinds.implied import all_monitors
from lakehouse_assets.platform.operations import restore
from lakehouse_assets.platform.operations.restore import RestoreRefused
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.orchestration.code_location import definitions
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.monitoring.kiosk import BRONZE, GOLD, SILVER, Says, days, sales

TWO = timedelta(days=2)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"name": "kiosk.gold.x"}, "write product.monitors.name"),
        ({"name": "kiosk.monitors.Big"}, "is no name of a table"),
        ({"of": 3}, "of=int is no table"),
        ({"of": monitor("kiosk.monitors.other", of=SILVER, kind=Volume())}, "is a monitor, which has no rows"),
        ({"kind": Volume}, "kind=Volume is no kind of monitor: write it with its parameters"),
        ({"severity": "eror"}, "severity='eror': write one of warn, error. Did you mean error?"),
        ({"owner": "nobody"}, "write team:NAME or an e-mail address"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, text):
    wanted = {"name": "kiosk.monitors.x", "of": sales, "kind": Volume()} | given
    with pytest.raises(DeclarationError, match=re.escape(text)):
        monitor(wanted.pop("name"), **wanted)


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (lambda: Freshness("day", timedelta(0)), "within="),
        (lambda: Freshness("day", 3), "give it as timedelta(days=2)"),
        (lambda: AlertRule(consecutive=0), "consecutive=0"),
        (lambda: AlertRule(resolve_after=0), "resolve_after=0"),
        (lambda: AlertRule(least_rows=-1), "least_rows=-1"),
        (lambda: AlertRule(cool_down=timedelta(hours=-1)), "cool_down="),
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(declare, text):
    with pytest.raises(DeclarationError, match=re.escape(text)):
        declare()


@pytest.mark.parametrize(
    ("name", "of", "kind", "text"),
    [
        (
            "x",
            "kiosk.silver.sale",
            Freshness("day", TWO),
            "reads kiosk.silver.sale, which no product declares: did you mean kiosk.silver.sales?",
        ),
        ("x", SILVER, Freshness("dya", TWO), f"column='dya' is no column of {SILVER}. Did you mean day?"),
        ("x", SILVER, Freshness("amount", TWO), f"column='amount' is a column of Int64 in {SILVER}, not of dates or timestamps"),
        ("x", GOLD, Volume(time="amount"), f"time='amount' is a column of Int64 in {GOLD}"),
        ("x", GOLD, Volume(), "name its column of dates or timestamps, as in Volume(time='day')"),
        ("amount_ge", SILVER, Says(), f"another check of {SILVER} is called 'amount_ge' already"),
        ("volume", SILVER, Says(), f"another check of {SILVER} is called 'volume' already"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_place(name, of, kind, text):
    wrong = monitor(f"kiosk.monitors.{name}", of=of, kind=kind)
    with pytest.raises(DeclarationError, match=re.escape(text)) as caught:
        Catalog((sales, days, wrong), frozenset({BRONZE}))
    assert re.match(r"\S*test_declarations\.py:\d+: kiosk\.monitors\.", str(caught.value))


def test_a_verdict_shows_no_personal_value():
    class Person(Contract):
        """A person."""

        born: date = column(key=True, personal=True)

    people = table("kiosk.silver.people", contract=Person, kind=Upsert(("born",)), inputs={"rows": BRONZE})(lambda rows: rows)
    with pytest.raises(DeclarationError, match=r"column=.born. of kiosk\.silver\.people is personal"):
        Catalog((people, monitor("kiosk.monitors.x", of=people, kind=Freshness("born", TWO))), frozenset({BRONZE}))
    assert Catalog((people, monitor("kiosk.monitors.x", of=people, kind=Volume(time="born"))), frozenset({BRONZE})).monitors


def test_two_monitors_of_a_table_have_two_words():
    one = monitor("kiosk.monitors.x", of=sales, kind=Says())
    other = monitor("risk.monitors.x", of=sales, kind=Says())
    with pytest.raises(DeclarationError, match=r"risk\.monitors\.x and kiosk\.monitors\.x would both be the check 'x' of kiosk"):
        Catalog((sales, days, one, other), frozenset({BRONZE}))
    assert Catalog((sales, days, one, monitor("risk.monitors.x", of=days, kind=Says())), frozenset({BRONZE})).monitors


def test_columns_of_a_quarantine_and_of_plain_assets_are_not_known_before():
    given = [
        monitor(f"kiosk.monitors.x{number}", of=of, kind=Freshness("at", TWO))
        for number, of in enumerate((SILVER + "__quarantine", BRONZE))
    ]
    assert Catalog((sales, days, *given), frozenset({BRONZE})).monitors == given


def test_a_monitor_writes_no_table_and_is_no_log_to_restore(tmp_path):
    watched = monitor("kiosk.monitors.x", of=sales, kind=Says())
    catalog = Catalog((sales, days, watched), frozenset({BRONZE}))
    assert watched.outputs() == ()
    assert "kiosk.monitors.x" not in catalog.schemas
    assert [one.name for one in catalog.in_order].index(watched.name) > [one.name for one in catalog.in_order].index(SILVER)
    with pytest.raises(RestoreRefused, match="is a log of the platform and is not restored"):
        restore.of_table(Lakehouse(str(tmp_path)), catalog.declarations, verdicts.TABLE, lambda _: 0)


def test_no_declared_monitor_may_be_called_as_what_is_always_checked(settings):
    """The list is that of the checks that the shipped products have, less their rules and monitors."""
    declared = load(products)
    rules = {rule.name for one in declared.tables for rule in one.rules}
    words = {one.word for one in declared.catalog.monitors}
    found = {key.name for key in definitions(settings, declared).resolve_asset_graph().asset_check_keys} - rules - words
    assert found <= OTHER_CHECKS
    assert {
        one.word for one in all_monitors(declared.declarations) if not one.place or one not in declared.catalog.monitors
    } <= OTHER_CHECKS


def test_the_columns_of_verdicts_are_those_of_a_verdict_each_with_its_meaning():
    assert list(verdicts.COLUMNS) == verdicts.SCHEMA.names()
    assert {field.name for field in fields(Verdict)} <= set(verdicts.SCHEMA.names())
    assert isinstance(monitor("kiosk.monitors.x", of=sales, kind=Says()), Monitor)
