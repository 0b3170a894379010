"""The one error of reading: a landed file that cannot be read, and why.

Rows that do not fit in an otherwise readable file are no error; they end in `_rescued`.
"""


class RefusedFile(Exception):  # noqa: N818  the design's word for the outcome; a refused file is recorded, not a crash
    """A landed file cannot be read.

    Attributes:
        reason: Sentences that name the file, the line where there is one, and what to do about it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
