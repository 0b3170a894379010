"""The columns that say where a row came from. How they are filled is the business of ingestion."""

ORDER = ("_sequence", "_row")
"""Tells the rows of a feed apart, and in which order they came: the number of the file, and the row in it."""
LINEAGE = ("_file", *ORDER)
NOT_STORED = ("_unparsed", "_hint", "_rescued")
"""Columns that silver has no use for: text that did not fit stays in bronze, what could not be converted goes into quarantine."""
