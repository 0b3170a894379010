"""A contract as plain values: what is kept of the contract that a table was written under, shown to people and compared with a later one.

Two documents are compared in `difference`; the open standard that other tools read is in `odcs`.
"""

from collections.abc import Mapping
from typing import Any

from lakehouse_assets.platform.quality.contract import Contract, columns_of, fingerprint, freshness_of, key_columns, rules_of
from lakehouse_assets.platform.quality.rules import Rule

Document = Mapping[str, Any]
"""A contract as `document` makes it; values of JSON."""


def document(contract: type[Contract]) -> dict[str, Any]:
    """All that a contract says, as values of JSON."""
    fresh = freshness_of(contract)
    return {
        "contract": contract.__name__,
        "description": " ".join((contract.__doc__ or "").split()),
        "fingerprint": fingerprint(contract),
        "key": list(key_columns(contract)),
        "columns": [
            {
                "name": info.name,
                "type": str(info.dtype),
                "nullable": info.nullable,
                "key": info.key,
                "personal": info.personal,
                "description": info.description,
                "references": str(info.references) if info.references else None,
            }
            for info in columns_of(contract)
        ],
        "rules": [_rule(rule) for rule in rules_of(contract)],
        "thresholds": {
            "max_bad_share": contract.__max_bad_share__,
            "max_bad_rows": contract.__max_bad_rows__,
            "share_counts_from": contract.__share_counts_from__,
        },
        "fresh": {"by": fresh.column, "within_seconds": fresh.within.total_seconds()} if fresh else None,
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "column": rule.column,
        "level": rule.level,
        "text": rule.text,
        "definition": rule.definition,
        "max_bad_share": rule.max_bad_share,
        "max_bad_rows": rule.max_bad_rows,
        "fingerprint": rule.fingerprint,
    }
