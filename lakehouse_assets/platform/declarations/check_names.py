"""What the checks of assets are called that are neither rules of a contract nor declared monitors. Each name is spelled here alone.

Whoever reads what Dagster recorded asks here which checks there are. What they demand, and their results, are in `orchestration`.
"""

from typing import Final

CONTRACT_CHECK: Final = "contract"
ACCOUNT_CHECK: Final = "row_account"
NOT_NULL_CHECK: Final = "not_null"
FILES_CHECK: Final = "files_read"
LEAKAGE_CHECK: Final = "leakage"
PARITY_CHECK: Final = "parity"
GATE_CHECK: Final = "gate"
CHECKS: Final = frozenset({CONTRACT_CHECK, ACCOUNT_CHECK, NOT_NULL_CHECK, FILES_CHECK, LEAKAGE_CHECK, PARITY_CHECK})
"""Those that tell that something is wrong. That the gate refuses a version is a normal answer of it."""
OTHER_CHECKS: Final = CHECKS | {GATE_CHECK, "freshness", "volume", "not_ahead", "has_champion", "features_of_champion"}
"""All of them, with those of monitors that tables imply: no declared monitor may be called so."""
NOT_EVALUATED: Final = "not_evaluated"
"""Metadata of a result that says nothing of rows: what went wrong is reported once, by the step that failed."""
