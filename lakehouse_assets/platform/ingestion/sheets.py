"""The sheets of an XLSX workbook, as its XML says before cells are laid out: how far each reaches, and formulas without a result.

The values of cells are read in `workbook`.
"""

import posixpath
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from lakehouse_assets.platform.ingestion.refused import RefusedFile, not_whole

_PIECE_BYTES = 1024 * 1024
_WORKBOOK, _RELATIONS = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
_PLACE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")
_MOST_FORMULAS = 100_000
_SHARED = "(a formula that cells share)"


@dataclass
class Sheet:
    """A worksheet.

    Attributes:
        name: Its name.
        is_hidden: Whether people do not see it.
        part: Its place in the archive.
        first: Row and column of the first cell that has a value, counted from 0; of the box around all of them.
        last: The same of the last.
        cells: How many cells have a value.
        formulas: The formulas whose result is not stored, by row and column.
    """

    name: str
    is_hidden: bool
    part: str
    first: tuple[int, int] = (0, 0)
    last: tuple[int, int] = (-1, -1)
    cells: int = 0
    formulas: dict[tuple[int, int], str] = field(default_factory=dict)

    @property
    def box(self) -> int:
        """How many cells are laid out: all from the first to the last."""
        return (self.last[0] - self.first[0] + 1) * (self.last[1] - self.first[1] + 1)

    @property
    def end(self) -> str:
        """The corner of the box, as in `XFD1048576`."""
        return place(*self.last)


def place(row: int, column: int) -> str:
    """How Excel names a cell; both are counted from 0."""
    letters, column = "", column + 1
    while column:
        column, letter = divmod(column - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return f"{letters}{row + 1}"


def read_sheets(path: Path) -> list[Sheet]:
    """The worksheets of a workbook in their order; chart sheets are none.

    Raises:
        RefusedFile: The file is no whole workbook.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sheets = list(_listed(archive))
            for sheet in sheets:
                _Cells(sheet).read(_pieces(archive, sheet.part))
            return sheets
    except (zipfile.BadZipFile, KeyError, expat.ExpatError, ValueError) as error:
        raise not_whole(path.name, "XLSX workbook", error) from error
    except NotImplementedError as error:
        raise RefusedFile(f"{path.name}: {error}. Save it again in Excel or LibreOffice.") from error


def _listed(archive: zipfile.ZipFile) -> Iterator[Sheet]:
    parts: dict[str, str] = {}
    named: list[tuple[str, bool, str]] = []

    def relation(tag: str, attributes: dict[str, str]) -> None:
        if tag == "Relationship" and attributes.get("Type", "").endswith("/worksheet"):
            target = attributes.get("Target", "")
            parts[attributes.get("Id", "")] = target.lstrip("/") if target.startswith("/") else posixpath.normpath(f"xl/{target}")

    def sheet(tag: str, attributes: dict[str, str]) -> None:
        if tag == "sheet":
            identity = next((value for name, value in attributes.items() if name.rpartition(":")[2] == "id"), "")
            named.append((attributes.get("name", ""), attributes.get("state", "visible") != "visible", identity))

    _parse(_pieces(archive, _RELATIONS), relation)
    _parse(_pieces(archive, _WORKBOOK), sheet)
    for name, is_hidden, identity in named:
        if identity in parts:
            yield Sheet(name, is_hidden, parts[identity])


def _pieces(archive: zipfile.ZipFile, part: str) -> Iterator[bytes]:
    with archive.open(part) as content:
        while piece := content.read(_PIECE_BYTES):
            yield piece


def _parser(start: Any) -> Any:
    parser = expat.ParserCreate()

    def local(tag: str, attributes: dict[str, str]) -> None:
        start(tag.rpartition(":")[2], attributes)

    def refuse(*_: Any) -> None:
        raise NotImplementedError("a part of it declares a document type, which no workbook does")

    parser.StartElementHandler = local
    parser.StartDoctypeDeclHandler = refuse
    return parser


def _parse(pieces: Iterator[bytes], start: Any) -> None:
    parser = _parser(start)
    for piece in pieces:
        parser.Parse(piece, False)  # noqa: FBT003 - as expat has it
    parser.Parse(b"", True)  # noqa: FBT003


class _Cells:
    """One pass over the XML of a sheet.

    A cell of a formula has an element `f`, and `v` with its result; programs that do not compute leave `v` out or empty. An empty result is
    one if the cell says that it is text.
    """

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self._at = (-1, -1)
        self._row, self._column = -1, -1
        self._is_text = self._has_value = self._in_formula = False
        self._formula: list[str] | None = None
        self._box = [2**31, 2**31, -1, -1]

    def read(self, pieces: Iterator[bytes]) -> None:
        """Fills in what the sheet says of its cells."""
        self._parser = _parser(self._start)
        for piece in pieces:
            self._parser.Parse(piece, False)  # noqa: FBT003
        self._parser.Parse(b"", True)  # noqa: FBT003
        self._finish()
        top, left, bottom, right = self._box
        if self._sheet.cells:
            self._sheet.first, self._sheet.last = (top, left), (bottom, right)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "v":
            if self._formula is None:
                self._has_value = True
            else:
                self._in_formula = False
                self._has_value |= self._is_text
        elif tag == "c":
            self._finish()
            self._begin(attributes)
        elif tag == "row":
            self._finish()
            number = attributes.get("r", "")
            self._row, self._column = int(number) - 1 if number.isdigit() else self._row + 1, -1
        elif tag == "f":
            self._formula, self._in_formula, self._has_value = [], True, False
            self._parser.CharacterDataHandler = self._text
        elif tag == "is":
            self._has_value = True

    def _begin(self, attributes: dict[str, str]) -> None:
        found = _PLACE.fullmatch(attributes.get("r", ""))
        if found:
            column = 0
            for letter in found[1]:
                column = column * 26 + ord(letter) - ord("A") + 1
            self._row, self._column = int(found[2]) - 1, column - 1
        else:
            self._column += 1
        self._at = self._row, self._column
        self._is_text, self._has_value = attributes.get("t") == "str", False

    def _text(self, text: str) -> None:
        if self._formula is None:
            return
        if self._in_formula:
            self._formula.append(text)
        elif text.strip():
            self._has_value = True

    def _finish(self) -> None:
        """The cell before is over."""
        row, column = self._at
        if row < 0:
            return
        if self._has_value:
            self._sheet.cells += 1
            box = self._box
            box[0], box[1] = min(box[0], row), min(box[1], column)
            box[2], box[3] = max(box[2], row), max(box[3], column)
        elif self._formula is not None and len(self._sheet.formulas) < _MOST_FORMULAS:
            self._sheet.formulas[row, column] = "=" + ("".join(self._formula).strip() or _SHARED)
        if self._formula is not None:
            self._formula = None
            self._parser.CharacterDataHandler = None
        self._at = (-1, -1)
