"""What can go wrong with a table. Every error of the storage room belongs here, each with a text that says what to do.

Errors about the content of rows belong to `quality`, errors about files to `ingestion`.
"""


class StorageError(Exception):
    """Base of the errors of this room."""


class SchemaMismatch(StorageError):
    """The frame does not have the columns or types of the table. Nothing was written."""


class TypeNotStorable(SchemaMismatch):
    """A column has a type that no Delta table can hold for every reader. Nothing was written."""


class ScopeError(StorageError):
    """A write would touch rows outside its declared scope, or its scope cannot be determined. Nothing was written."""


class CursorMoved(StorageError):
    """Another writer took a part of the same batch first. Read from the cursor and do the batch again."""


class CommitConflict(StorageError):
    """Other writers won every attempt until the time was up. Nothing was written."""


class CutShort(StorageError):
    """Not all rows that were to be written could be read. Nothing was written."""


class NoSuchTable(StorageError):
    """The table does not exist (yet)."""


class TableDamaged(StorageError):
    """The newest version of a table cannot be opened. Older ones may be intact."""


class NoSuchVersion(StorageError):
    """The table does not have that version (any more)."""


class DatabaseUnavailable(StorageError):
    """The database of Dagster or of MLflow cannot be opened or written. Tables do not need it to be read."""


class BucketRefused(StorageError):
    """A bucket cannot hold a lakehouse: its settings or its store are unsafe, or it cannot be reached."""
