"""The one error of reading: a landed file that cannot be read, and why.

Rows that do not fit in an otherwise readable file are no error; they end in `_rescued`.
"""


class RefusedFile(Exception):
    """A landed file cannot be read.

    Attributes:
        reason: Sentences that name the file, the line where there is one, and what to do about it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def not_whole(file: str, kind: str, error: BaseException) -> RefusedFile:
    """The refusal of a truncated or damaged file, with the message of its reader."""
    first_line = str(error).partition("\n")[0]
    return RefusedFile(f"{file} is not a whole {kind} ({first_line}). Land it again, complete.")
