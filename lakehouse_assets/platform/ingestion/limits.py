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
        columns: The most columns of a file: as many as a sheet of a workbook may have.
        cells: The most cells of the box around the cells of a sheet, which is laid out in memory, empty ones and all.
        memory: The most bytes that reading a parquet or XLSX file may take in the process that reads it; None: half of the machine's.
        seconds: How long reading a parquet or XLSX file may take; a large one gets a second more for each megabyte.
    """

    unpacked: int = 64 * 1024 * _MIB
    workbook: int = 2 * 1024 * _MIB
    ratio: int = 200
    harmless: int = 64 * _MIB
    line: int = 64 * _MIB
    columns: int = 16_384
    cells: int = 50_000_000
    memory: int | None = None
    seconds: int = 120


DEFAULT = Limits()
