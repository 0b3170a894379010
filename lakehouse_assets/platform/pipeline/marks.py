"""The names of the watermarks that a table keeps on itself, next to those on its sources. Nothing else belongs here."""

FULL_REFRESH = "full-refresh"
"""The number of the last full refresh. The table that is computed to take the place of another carries the number that it will have."""
LAYOUT = "layout"
"""The layout of the table, see `TableDeclaration.layout_number`. It goes back with a restore, as the layout does."""
PROGRESS = "progress"
"""Where a batch is committed in parts: how many of them are."""
