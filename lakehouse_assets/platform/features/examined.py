"""What is told of the rows that a model learns from, besides the rows: what they are made of, and whether something gives the target away.

The two are worked out here for examples of any kind; what follows from them is for the pipeline to decide.
"""

from dataclasses import dataclass
from functools import singledispatch

from lakehouse_assets.platform.compute.packages import version
from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import Examples
from lakehouse_assets.platform.features.content_digest import content_digest
from lakehouse_assets.platform.features.leakage import Leakage, LeakageReport
from lakehouse_assets.platform.features.manifest import Manifest, PinnedTables
from lakehouse_assets.platform.features.training_set import LabelledExamples, training_set


@dataclass(frozen=True)
class Examined:
    """What was told of some examples.

    Attributes:
        manifest: What they are made of.
        leakage: What gives the target away.
    """

    manifest: Manifest
    leakage: LeakageReport


@singledispatch
def examine(examples: Examples, pinned: PinnedTables, look: Leakage, *, seed: int, compute: Compute) -> Examined:
    """Make the rows of a model at pinned versions and look at them.

    Args:
        examples: What they are.
        pinned: The tables, as `pin` gives them.
        look: How they are looked at.
        seed: Of random choices.
        compute: Where work runs.
    """
    rows = examples.rows(pinned.read).collect()
    report = look.report_rows(
        rows, key=examples.key, at=examples.at, target=examples.target, inputs=examples.inputs, seed=seed, compute=compute
    )
    manifest = Manifest(
        tables=pinned.tables,
        features=(),
        labels={"target": examples.target, "at": examples.at},
        known_until=None,
        columns={name: str(dtype) for name, dtype in rows.schema.items()},
        rows=rows.height,
        digest=content_digest(rows, tuple(dict.fromkeys((examples.at, *examples.key)))),
        assumed=0.0,
        packages={name: version(name) for name in ("lakehouse-assets", "polars")},
    )
    return Examined(manifest, report)


@examine.register
def _(examples: LabelledExamples, pinned: PinnedTables, look: Leakage, *, seed: int, compute: Compute) -> Examined:
    made = training_set(examples, pinned)
    return Examined(made.manifest, look.report(made, pinned.read, seed=seed, compute=compute))
