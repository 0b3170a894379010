"""How often the gate is wrong: what it promotes and refuses, in many draws of folds, against the limits that it promises.

Draws come from two sources. **Real**: losses of pairs of candidates on 25 origins of real invoices (`benchmarks.gate_backtests`). A draw
takes origins with replacement, and the pair's mean log ratio is set to 0 or to a gain. Equally good are two candidates of which either may
be the better one in each fold: so it is drawn. **Simulated**: folds whose difficulty both share, and log ratios that are heavy-tailed
(Student's t with 6 degrees of freedom: an excess kurtosis of 3; that of the real pairs is -0.4 to 6.6, at 25 origins).

The kinds of pairs are told by the standard deviation of their log ratio by fold: twins (2 %: another seed), variants (4 %: other
parameters), changes of method (8 %), rivals (13 %: another kind of model). Shown without a limit, because no test keeps an error rate
there: pairs that are equal on average while one of them is better in most folds and much worse in few (`skewed`: the worse of the two
orders), and draws of neighbouring origins, whose test windows overlap and are no independent folds.

Run it with `python -m benchmarks.gate`; it takes some minutes and writes `benchmarks/results/gate.json`.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.measure import RESULTS, keep
from lakehouse_assets.platform.declarations.gates import Gate
from lakehouse_assets.platform.modelling.gate.comparison import Test, sign_flip
from lakehouse_assets.platform.modelling.gate.decision import decide
from lakehouse_assets.platform.modelling.gate.guards import Guard
from lakehouse_assets.platform.modelling.gate.newest import NewestWindow, Shift
from lakehouse_assets.platform.modelling.gate.shadow import evidence

Numbers = NDArray[np.float64]
RULE = Gate()
AT_ONCE = 64
DRAWS, FEWEST, MOST, YEAR = 2_000, 5, 26, 13
MOST_BY_CHANCE, MOST_WORSE, LEAST_FOUND, LEAST_FOUND_RIVALS = 0.055, 0.02, 0.98, 0.85
SPREADS = {"twins": 0.02, "variants": 0.04, "changes of method": 0.08, "rivals": 0.13}
COLUMNS = (
    "equal changes",
    "gains of 10 %, 13 folds",
    "gains of 5 %, 26 folds",
    "refreshes 10 % worse",
    "equal refreshes",
    "equal refreshes, 13 folds",
)
REAL_PAIRS = (
    ("product", "other seed"),
    ("product", "third seed"),
    ("product", "fewer rounds"),
    ("product", "faster"),
    ("product", "fewer leaves"),
    ("product", "without seasons"),
    ("product", "weighted by value"),
    ("product", "tweedie"),
    ("product", "squares"),
    ("product", "reference"),
)


@dataclass(frozen=True)
class Pair:
    """How losses of two candidates are drawn that are equally good: the champion's, and log ratios of the challenger's to them."""

    source: str
    name: str
    spread: float
    draw: Callable[[np.random.Generator, int], tuple[Numbers, Numbers]]

    @property
    def kind(self) -> str:
        """The kind of pair that it is nearest to, by its spread."""
        return min(SPREADS, key=lambda kind: abs(np.log(SPREADS[kind] / self.spread)))


def heavy_tailed(random: np.random.Generator, size: int) -> Numbers:
    """Student's t with 6 degrees of freedom, divided by its standard deviation."""
    return np.asarray(random.standard_t(6, size=size) / np.sqrt(6 / 4))


def simulated(kind: str) -> Pair:
    spread = SPREADS[kind]

    def draw(random: np.random.Generator, folds: int) -> tuple[Numbers, Numbers]:
        return random.lognormal(-1.0, 0.25, size=folds), spread * heavy_tailed(random, folds)

    return Pair("simulated", kind, spread, draw)


def real(backtests: Mapping[str, list[float]], one: str, other: str, *, block: int = 1, either: bool = True) -> Pair:
    """Draws of origins with replacement, `block` neighbouring ones at a time.

    Args:
        backtests: Losses by candidate.
        one: The champion.
        other: The challenger.
        block: How many neighbours are drawn together.
        either: Whether either of the two is the better one in each block; else the pair's own skew stays.
    """
    champion, challenger = np.array(backtests[one]), np.array(backtests[other])
    ratios = np.log(challenger / champion)
    ratios -= ratios.mean()

    def draw(random: np.random.Generator, folds: int) -> tuple[Numbers, Numbers]:
        starts = random.integers(0, len(ratios), size=-(-folds // block))
        origins = ((starts[:, None] + np.arange(block)) % len(ratios)).ravel()[:folds]
        signs = np.repeat(random.choice((-1, 1), size=len(starts)), block)[:folds] if either else 1
        return champion[origins], ratios[origins] * signs

    return Pair("real" if block == 1 else f"real, {block} neighbours at a time", f"{one} / {other}", float(ratios.std(ddof=1)), draw)


def passed(pair: Pair, *, gain: float, folds: int | None, test: Test, draws: int, seed: int = 0) -> float:
    """The share of draws in which the challenger passes against the champion.

    Args:
        pair: How losses are drawn.
        gain: Share by which the challenger's losses are lower; negative: higher.
        folds: How many; None: between `FEWEST` and `MOST`, drawn anew each time.
        test: Which one.
        draws: How many.
        seed: Of the draws.
    """
    random = np.random.default_rng(seed)
    margin = RULE.margin if test == "non-inferiority" else 0.0
    drawn: dict[int, list[tuple[Numbers, Numbers]]] = {}
    for _ in range(draws):
        count = folds or int(random.integers(FEWEST, MOST + 1))
        champion, ratios = pair.draw(random, count)
        drawn.setdefault(count, []).append((champion * np.exp(ratios) * (1 - gain), champion))
    found = 0
    for same in drawn.values():
        for start in range(0, len(same), AT_ONCE):
            challengers, champions = (np.array(losses) for losses in zip(*same[start : start + AT_ONCE], strict=True))
            chances = sign_flip(np.log(champions / challengers) + np.log1p(margin))
            lower = challengers.mean(axis=1) < (1 + margin) * champions.mean(axis=1)
            passes = lower & (chances <= RULE.error_rate)
            if not margin:
                passes &= 1 - np.exp(np.log(challengers / champions).mean(axis=1)) >= RULE.least_gain
            else:
                passes |= (challengers <= champions).all(axis=1)
            found += int(passes.sum())
            # Many draws are tested at once; the gate as it is used has to agree.
            if judged(challengers[0], champions[0], refresh=bool(margin)).promote != passes[0]:
                sys.exit(f"the gate decides otherwise than this benchmark: {challengers[0].tolist()} against {champions[0].tolist()}")
    return found / draws


def judged(challenger: Numbers, champion: Numbers, *, refresh: bool, newest: NewestWindow | None = None) -> Any:
    """The decision of the whole gate, with a baseline that both are far ahead of."""
    losses = frame(challenger=challenger, champion=champion, baseline=np.full(len(champion), 50.0))
    sound = newest or NewestWindow(loss=1.0, usual_loss=1.0)
    return decide(
        losses,
        RULE,
        challenger="challenger",
        champion="champion",
        baselines=("baseline",),
        same_recipe=refresh,
        metric="WAPE",
        newest=sound,
    )


def frame(**candidates: Numbers) -> pl.DataFrame:
    rows = [
        {"fold": f"{number:03}", "slice": None, "value": None, "candidate": name, "score": loss, "loss": loss, "rows": 280}
        for name, losses in candidates.items()
        for number, loss in enumerate(losses.tolist())
    ]
    return pl.DataFrame(rows, schema_overrides={"slice": pl.String, "value": pl.String})


def rates(pair: Pair, draws: int) -> dict[str, float]:
    """What is promoted of this pair, by how good the challenger is."""
    return {
        "spread": pair.spread,
        "equal changes": passed(pair, gain=0.0, folds=None, test="superiority", draws=draws),
        "gains of 10 %, 13 folds": passed(pair, gain=0.1, folds=YEAR, test="superiority", draws=draws // 4),
        "gains of 5 %, 26 folds": passed(pair, gain=0.05, folds=MOST, test="superiority", draws=draws // 4),
        "refreshes 10 % worse": passed(pair, gain=-0.1, folds=None, test="non-inferiority", draws=draws // 2),
        "equal refreshes": passed(pair, gain=0.0, folds=None, test="non-inferiority", draws=draws // 4),
        "equal refreshes, 13 folds": passed(pair, gain=0.0, folds=YEAR, test="non-inferiority", draws=draws // 4),
    }


def limits_broken(pair: Pair, found: Mapping[str, float]) -> Iterator[str]:
    if found["equal changes"] > MOST_BY_CHANCE:
        yield "equal changes"
    # A pair that differs more than rivals do is no kind that a gain is promised for.
    least = LEAST_FOUND_RIVALS if pair.kind == "rivals" else LEAST_FOUND
    if pair.spread <= SPREADS["rivals"] * 1.05 and found["gains of 10 %, 13 folds"] < least:
        yield "gains of 10 %, 13 folds"
    if found["refreshes 10 % worse"] > MOST_WORSE:
        yield "refreshes 10 % worse"


def newest_rows(kept: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """How many refreshes with the champion's own backtests pass, by what was done to their last 20 days, and which guards stopped them."""
    same = np.full(YEAR, 0.35)
    found: dict[str, dict[str, Any]] = {}
    for one in kept:
        decision = judged(same, same, refresh=True, newest=_window(one))
        part = found.setdefault(
            {1.0: "as they are", 10.0: "ten times", 0.1: "a tenth"}[one["factor"]], {"trainings": 0, "promoted": 0, "stopped by": {}}
        )
        part["trainings"] += 1
        part["promoted"] += decision.promote
        for guard in decision.guards:
            if not guard.passed:
                part["stopped by"][guard.name] = part["stopped by"].get(guard.name, 0) + 1
    return found


def _window(one: Mapping[str, Any]) -> NewestWindow:
    numbers = {name: value for name, value in one["window"].items() if name not in {"target", "predicted"}}
    target, predicted = (Shift(**one["window"][name]) for name in ("target", "predicted"))
    return NewestWindow(
        **numbers, target=target, predicted=predicted, inputs={name: Shift(*values) for name, values in one["inputs"].items()}
    )


def cheats(backtests: Mapping[str, list[float]], draws: int) -> dict[str, float]:
    """How often models are promoted that know only what the one-line rule knows, or only a leak."""
    rule = np.array(backtests["reference"])
    baseline = {"naive": np.array(backtests["seasonal_naive"])}
    random = np.random.default_rng(0)
    found = {"the rule itself": 0, "the rule with noise of 4 %": 0, "a leak": 0}
    leak = Guard(name="leakage", value=0.999, high=0.95, meaning="refunded_at alone nearly determines the target")
    for name in found:
        for _ in range(draws if "noise" in name else 1):
            challenger = {
                "the rule itself": rule,
                "the rule with noise of 4 %": rule * np.exp(0.04 * random.standard_normal(len(rule))),
                "a leak": 0.01 * rule,
            }[name]
            decision = decide(
                frame(challenger=challenger, rule=rule, **baseline),
                RULE,
                challenger="challenger",
                baselines=("naive",),
                one_line_rules=("rule",),
                guards=[leak] if name == "a leak" else (),
            )
            found[name] += decision.promote
    return {name: count / (draws if "noise" in name else 1) for name, count in found.items()}


def live(draws: int) -> dict[str, dict[str, float]]:
    """How often live losses by day call a new champion back, by how much worse it is, within four weeks and within a year."""
    needed = 1 / RULE.error_rate
    found: dict[str, dict[str, float]] = {}
    for kind, spread in SPREADS.items():
        for worse in (0.0, 0.1, 0.3):
            random = np.random.default_rng(0)
            called = np.zeros(2)
            for _ in range(draws):
                gains = np.log1p(worse) + spread * heavy_tailed(random, 365)
                called += [evidence(gains[:28]) >= needed, evidence(gains) >= needed]
            found[f"{kind}, {worse:.0%} worse"] = {"28 days": float(called[0] / draws), "365 days": float(called[1] / draws)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=DRAWS, help="for each rate; fewer for a look")
    draws = parser.parse_args().draws
    kept = json.loads((RESULTS / "gate_backtests.json").read_text())
    backtests = kept["losses"]["all"]
    pairs = [*map(simulated, SPREADS), *(real(backtests, one, other) for one, other in REAL_PAIRS)]

    results, broken = [], []
    table = Table("source", "pair", "spread", *COLUMNS, title=f"promoted, of {draws:,} draws")
    for pair in pairs:
        found = rates(pair, draws)
        wrong = list(limits_broken(pair, found))
        broken += [f"{pair.source} {pair.name}: {name} {found[name]:.1%}" for name in wrong]
        results.append({"source": pair.source, "pair": pair.name, "kind": pair.kind, **found})
        table.add_row(
            pair.source, pair.name, f"{pair.spread:.1%}", *(f"{found[name]:.1%}{'!' if name in wrong else ''}" for name in COLUMNS)
        )
    console = Console(width=170)
    console.print(table)

    overlapping = {
        f"{one} / {other}, {block} at a time": passed(
            real(backtests, one, other, block=block), gain=0.0, folds=None, test="superiority", draws=draws // 4
        )
        for one, other in REAL_PAIRS[::3]
        for block in (2, 4)
    }
    console.print("equal changes promoted with neighbouring origins, whose windows overlap:", overlapping)
    skewed = {
        f"{one} / {other}": max(
            passed(real(backtests, *pair, either=False), gain=0.0, folds=None, test="superiority", draws=draws // 4)
            for pair in ((one, other), (other, one))
        )
        for one, other in REAL_PAIRS
    }
    console.print("changes promoted that are equal on average, while better in most folds:", skewed)
    windows = newest_rows(kept["newest"])
    console.print("refreshes with the champion's own backtests, by their last 20 days:", windows)
    broken += [
        f"newest days {name}: {part['promoted']} promoted" for name, part in windows.items() if name == "ten times" and part["promoted"]
    ]
    cheated = cheats(backtests, draws // 4)
    console.print("models that know only the rule or a leak, promoted:", cheated)
    broken += [f"{name}: {rate:.1%} promoted" for name, rate in cheated.items() if rate > MOST_BY_CHANCE]
    called = live(draws)
    console.print("new champions called back by live losses:", called)
    broken += [
        f"called back: {name} {rate['365 days']:.1%}"
        for name, rate in called.items()
        if ", 0%" in name and rate["365 days"] > MOST_BY_CHANCE
    ]

    limits = {
        "equal changes": MOST_BY_CHANCE,
        "gains of 10 %, 13 folds": [LEAST_FOUND, LEAST_FOUND_RIVALS],
        "refreshes 10 % worse": MOST_WORSE,
        "newest days ten times": 0,
    }
    print("holds" if not broken else "BROKEN: " + "; ".join(broken))
    parts = {"rates": results, "skewed": skewed, "overlapping": overlapping, "newest": windows, "cheats": cheated, "live": called}
    keep("gate", {"draws": draws, "limits": limits, "holds": not broken, "broken": broken, **parts})
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
