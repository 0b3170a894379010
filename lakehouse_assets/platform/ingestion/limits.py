"""How large a landed file may turn out to be when it is opened.

Sizes on disk are bounded by whoever lands the file; these bounds are for what is not seen before a file is read.
"""

from dataclasses import dataclass

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Bounds of one file; a file beyond them is refused.

    Attributes:
        unpacked: The most bytes that a compressed file may unpack to; they go to disk.
        workbook: The most bytes that the parts of an XLSX workbook may unpack to; they go to memory.
        ratio: The most that a file may grow when it is unpacked, for anything that unpacks to more than `harmless` bytes. Text of
            ordinary tables grows 5 to 50 times.
        harmless: Up to this many unpacked bytes, any ratio will do.
        line: The most bytes in one line of a text file.
        new_columns: The most columns that a file may offer besides the declared ones; one with more offers none: it is no wider table
            but something else.
    """

    unpacked: int = 64 * 1024 * _MIB
    workbook: int = 2 * 1024 * _MIB
    ratio: int = 200
    harmless: int = 64 * _MIB
    line: int = 64 * _MIB
    new_columns: int = 200


DEFAULT = Limits()
