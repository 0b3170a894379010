"""The ledger and MLflow's aliases agree after every step, whatever was decided, set by hand or cut short before it.

Clocks may step back meanwhile.
"""

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.registry.decisions import ModelDecisions
from lakehouse_assets.platform.registry.ledger import Verdict
from lakehouse_assets.platform.registry.mlflow_store import load_mlflow
from lakehouse_assets.platform.registry.registry import Aliases, Registry
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.registry.example import training

NAME, LEDGER = "demo.daily_revenue", "demo.models.daily_revenue"
VERSIONS = 3
numbers = count()


@pytest.fixture
def registry(registry):
    for number in range(VERSIONS):
        registry.log_training(training(fingerprint=f"f{number}"))
    return registry


def decisions_in(root, registry) -> ModelDecisions:
    made = ModelDecisions(Lakehouse(str(root)).table(LEDGER), NAME, registry, "run-1")
    made.create()
    return made


def client(registry):
    return load_mlflow().MlflowClient(registry.tracking_uri, registry.tracking_uri)


class Crashes(Registry):
    """A registry whose connection breaks before any alias is changed."""

    def set_aliases(self, model_name, wanted):
        if self.aliases(model_name) != wanted:
            raise ConnectionError("MLflow does not answer")
        return False


class Clock:
    """A clock that steps forth and back."""

    shift = timedelta()


class History:
    """One model on a root of its own, and the aliases that are expected of it."""

    def __init__(self, root, registry) -> None:
        self.registry, self.decisions, self.expected = registry, decisions_in(root, registry), Aliases()
        self.failing = decisions_in(root, Crashes(registry.tracking_uri, registry.artifact_root))

    def gate_promotes(self, version) -> None:
        self._gate("promoted", version, self.expected.promote(version))

    def gate_keeps(self, version) -> None:
        self._gate("kept as challenger", version, self.expected.challenge(version))

    def _gate(self, decision, version, aliases) -> None:
        self.expected = aliases
        assert self.decisions.record(self.decisions.sync(), Verdict(decision=decision, reasons=["Because."]), version, aliases=aliases)

    def promote(self, version) -> None:
        assert self.decisions.promote(version, "By hand.").changed == (version != self.expected.champion)
        self.expected = self.expected.promote(version)

    def promote_while_mlflow_fails(self, version) -> None:
        before, self.expected = self.expected, self.expected.promote(version)
        if self.expected != before:
            with pytest.raises(ConnectionError):
                self.failing.promote(version, "By hand.")
            assert self.decisions.state().aliases == self.expected, "committed: the next step has to bring it to MLflow"
            assert self.registry.aliases(NAME) == before

    def set_by_hand(self, version) -> None:
        client(self.registry).set_registered_model_alias(NAME, "champion", str(version))
        self.expected = self.expected.promote(version)

    def removed_by_hand(self, _) -> None:
        client(self.registry).delete_registered_model_alias(NAME, "champion")
        self.expected = self.expected.retire()

    def rollback(self, _) -> None:
        champion, previous = self.expected.champion, self.expected.previous
        if previous is None:
            with pytest.raises(LookupError, match="no previous champion"):
                self.decisions.rollback()
            return
        change = self.decisions.rollback()
        assert (change.champion, change.champion_before) == (previous, champion)
        self.expected = self.expected.promote(previous)
        assert self.registry.aliases(NAME) == self.expected
        if champion is not None:
            assert self.decisions.rollback().champion == champion, "a rollback undoes itself"
            self.expected = self.expected.promote(champion)

    def clock_steps(self, hours) -> None:
        Clock.shift += timedelta(hours=hours)


a_version = st.integers(1, VERSIONS)
steps = st.one_of(
    st.tuples(st.sampled_from(["gate_promotes", "gate_keeps", "promote", "promote_while_mlflow_fails", "set_by_hand"]), a_version),
    st.tuples(st.sampled_from(["rollback", "removed_by_hand"]), st.none()),
    st.tuples(st.just("clock_steps"), st.integers(-1000, 1000)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(taken=st.lists(steps, min_size=2, max_size=7))
def test_after_any_history_the_aliases_follow_the_ledger_and_a_rollback_undoes(registry, tmp_path, monkeypatch, taken):
    monkeypatch.setattr(clock, "now", lambda: datetime(2024, 1, 1, tzinfo=UTC) + Clock.shift)
    registry.set_aliases(NAME, Aliases())
    history = History(tmp_path / f"tables {next(numbers)}", registry)
    decisions = history.decisions
    for step, value in taken:
        getattr(history, step)(value)
        assert decisions.sync().aliases == history.expected
        assert (registry.aliases(NAME), decisions.state().aliases) == (history.expected, history.expected)
        version = decisions.ledger.version()
        decisions.sync()
        assert decisions.ledger.version() == version, "nothing has happened since"
    rows = decisions.ledger.scan().sort("sequence").collect()
    assert rows["sequence"].to_list() == list(range(1, rows.height + 1))
    assert rows["champion_before"].to_list() == [None, *rows["champion"].to_list()][: rows.height]
