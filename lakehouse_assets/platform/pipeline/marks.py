"""The names of the watermarks that a table keeps on itself, next to those on its sources. Nothing else belongs here."""

from lakehouse_assets.platform.storage import feature_versions

FULL_REFRESH = "full-refresh"
"""The number of the last full refresh. The table that is computed to take the place of another carries the number that it will have."""
PARTITIONS = "partitions"
"""The number of the last time that single partitions were computed again."""
LAYOUT = "layout"
"""The layout of the table, see `TableDeclaration.layout_number`. It goes back with a restore, as the layout does."""
FUNCTION = "function"
"""The function that computed all rows of the table, see `functions`. It goes back with a restore, as the rows do."""
PROGRESS = "progress"
"""Where a batch is committed in parts: how many of them are."""
SOURCE_ID = "source-id"
"""Of each source the Delta table that was read, see `source_ids`. It goes back with a restore, as the rows do."""


def is_on_a_source(name: str) -> bool:
    """Whether a watermark says how far a source was read, and nothing of the table itself."""
    return name.partition("/")[0] not in {FULL_REFRESH, PARTITIONS, LAYOUT, FUNCTION, PROGRESS, SOURCE_ID, feature_versions.PREFIX}
