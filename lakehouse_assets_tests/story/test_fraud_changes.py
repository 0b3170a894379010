"""Thieves change what they do: accuracy falls as chargebacks arrive, an alert opens, the model is retrained, and all is well again.

Months pass in it. Dagster's sensors alone move the story; what became of it is read from the tables.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.platform.monitoring.retraining.runs import REASON_TAG, REQUEST_TAG
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.settings import Settings
from lakehouse_assets.simulator.shop import simulate
from lakehouse_assets_tests.platform.monitoring.alerts import receivers
from lakehouse_assets_tests.story import risk
from lakehouse_assets_tests.story.months import Feeds, Months, months

START, CHANGES = date(2023, 12, 4), date(2024, 9, 2)
ORDERS, SEED, WEEK = 250, 4, timedelta(days=7)
# What is paid now is settled, and so judged, once orders of ten weeks later are there: until then the shop is looked at now and then, and
# after it each week.
QUIET, WEEKS = (28, 28, 21), 8
ALERT = f"monitor:{risk.ACCURACY}"


@dataclass(frozen=True)
class Story:
    """What happened.

    Attributes:
        root: At the end.
        told: The events of the alert about accuracy that the webhook was sent, in their order.
        champions: The champion after each morning, by day.
    """

    root: Months
    told: list[dict]
    champions: dict[date, int]

    def alert(self) -> dict[str, dict]:
        """The events of the alert about accuracy in the log; each is there once."""
        rows = self.root.rows(platform_tables.ALERTS).filter(pl.col("key") == ALERT, pl.col("alert_id") != "")
        assert rows["event"].is_unique().all(), rows
        return {row["event"]: row for row in rows.sort("sequence").iter_rows(named=True)}

    def accuracy(self, version: int) -> pl.DataFrame:
        """The weeks of a version whose outcomes are known, in their order."""
        rows = self.root.rows(platform_tables.ACCURACY)
        chosen = rows.filter(metric="average precision", cell="all", is_estimate=False, provisional=False, model_version=version)
        return chosen.filter(pl.col("value").is_not_null()).sort("window_start")

    def verdicts(self) -> pl.DataFrame:
        """What was said of the accuracy, one row a week that was judged."""
        rows = self.root.rows(platform_tables.VERDICTS).filter(pl.col("monitor") == risk.ACCURACY, pl.col("passed").is_not_null())
        return rows.sort("evaluated_at").unique("window_start", keep="last", maintain_order=True)


def happened(folder: Path) -> Iterator[Story]:
    """All that happens, from the first day of the shop on."""
    settings = Settings.load({"LAKEHOUSE_ROOT": str(folder / "root")})
    days = (CHANGES - START).days + sum(QUIET) + WEEKS * WEEK.days
    simulate(folder / "feeds", folder / "truth.json", days=days, orders_per_day=ORDERS, seed=SEED, start=START, fraud_changes=CHANGES)
    feeds, day, champions = Feeds(folder / "feeds"), CHANGES, dict[date, int]()
    with receivers.webhook() as webhook, months(settings, risk.CATALOG) as root, pytest.MonkeyPatch.context() as patched:
        patched.setenv("LAKEHOUSE_ALERT_WEBHOOK", webhook.address)
        feeds.land(settings, START, day)
        root.morning(day)
        root.execute("train")
        for step in (*QUIET, *[WEEK.days] * WEEKS):
            feeds.land(settings, day, day + timedelta(days=step))
            day += timedelta(days=step)
            root.morning(day)
            champions[day] = root.rows(risk.MODEL).sort("sequence")["champion"][-1]
        yield Story(root, [event for event in webhook.alerts if event["key"] == ALERT], champions)


def mean(weeks: pl.DataFrame) -> float:
    """Average precision of some weeks, by their rows."""
    return (weeks["value"] * weeks["labelled"]).sum() / weeks["labelled"].sum()


def moment(day: date, hour: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


def test_thieves_change_what_they_do_and_the_model_follows(tmp_path):
    with contextmanager(happened)(tmp_path) as story:
        # Before the change all is well. It shows week by week, when the outcomes are known: from the first week that is a changed one.
        verdicts, first = story.verdicts(), story.accuracy(1)
        before = first.filter(pl.col("window_end") <= moment(CHANGES))
        fallen = first.filter(pl.col("window_start") >= moment(CHANGES + WEEK))
        assert verdicts.filter(pl.col("window_start") <= moment(CHANGES))["passed"].all()
        assert fallen.height >= 3
        assert mean(fallen) < 0.3 * mean(before)
        assert (first["coverage"] == 1.0).all()

        # Three bad weeks open the alert, with the value and the threshold of the monitor.
        events = story.alert()
        assert list(events) == ["opened", "resolved"], events
        opened, resolved = events["opened"], events["resolved"]
        bad = verdicts.filter(pl.col("evaluated_at") == opened["at"]).row(0, named=True)
        assert verdicts.filter(pl.col("evaluated_at") <= opened["at"]).tail(3)["passed"].to_list() == [False] * 3
        assert opened["bad_windows"] == 3
        assert (opened["value"], opened["threshold"], opened["window"]) == (bad["value"], bad["threshold"], bad["window_start"])
        assert opened["value"] < opened["threshold"] < mean(before)
        assert (opened["severity"], opened["owner"]) == ("error", "team:risk")
        assert "average precision of version 1 was" in opened["text"]
        assert "in its evaluation it was" in opened["text"]

        # The same morning one training is asked for, for that reason, which stands wherever somebody looks.
        (asked,) = story.root.rows(platform_tables.TRAINING_REQUESTS).iter_rows(named=True)
        (evidence,) = json.loads(asked["evidence"])
        reason = asked["reason"]
        assert (asked["requested_at"], asked["cause"], asked["champion"]) == (opened["at"], "accuracy", 1)
        assert (evidence["monitor"], evidence["value"], evidence["threshold"]) == (risk.ACCURACY, opened["value"], opened["threshold"])
        assert reason.startswith(
            f"{risk.ACCURACY} failed: average precision was {opened['value']:.4g} (threshold {opened['threshold']:.4g})"
        )
        (run,) = story.root.instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: f"{risk.MODEL}:1"}))
        assert run.tags[REASON_TAG] == reason
        assert story.root.registry.version(risk.MODEL, 2).tags["training_reason"] == reason

        # The gate decides, and the new version is champion.
        by_hand, retrained = story.root.rows(risk.MODEL).sort("sequence").iter_rows(named=True)
        assert (by_hand["version"], by_hand["question"], by_hand["training_reason"]) == (1, "first", None)
        assert (retrained["version"], retrained["question"], retrained["training_reason"]) == (2, "refresh", reason)
        assert (retrained["decision"], retrained["champion"], retrained["decided_at"]) == ("promoted", 2, opened["at"])
        assert story.champions == {day: 1 if moment(day, 6) < opened["at"] else 2 for day in story.champions}

        # On orders that it had not learnt from it is as good as its predecessor was, and the alert is over, once.
        after = story.accuracy(2)
        assert after.height >= 3
        assert after["window_start"].min() >= fallen["window_end"][2], "of what it had learnt nothing counts"
        assert mean(after) > 0.8 * mean(before)
        assert verdicts.filter(pl.col("evaluated_at") > opened["at"])["passed"].all()
        # The first week that it had not learnt from is settled once orders of the morning ten weeks after its end are there.
        assert resolved["at"] == opened["at"] + 2 * WEEK
        assert "of version 2 was" in resolved["text"]
        assert [(event["event"], event["id"], event["number"]) for event in story.told] == [
            ("opened", opened["alert_id"], 1),
            ("resolved", opened["alert_id"], 2),
        ]
