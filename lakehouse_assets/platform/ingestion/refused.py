"""The one error of reading: a landed file that cannot be read, and why.

Rows that do not fit in an otherwise readable file are no error; they end in `_rescued`.
"""

from lakehouse_assets.platform.quality.masking import without_values


class RefusedFile(Exception):
    """A landed file cannot be read.

    Attributes:
        reason: Sentences that name the file, the line where there is one, and what to do about it.
        without_content: The reason without words out of the file, if it has any: those of a file without a header are values of a row.
    """

    def __init__(self, reason: str, without_content: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.without_content = without_content or reason


def not_whole(file: str, kind: str, error: BaseException) -> RefusedFile:
    """The refusal of a truncated or damaged file, with the message of its reader."""
    return RefusedFile(f"{file} is not a whole {kind} ({without_values(error)}). Land it again, complete.")
