"""Words that every room puts into its messages: counts with their noun, and text of data made fit for a terminal.

It knows nothing of tables or files. What a message says belongs to where it is raised.
"""

import re
import unicodedata

# Joiners of emoji and of scripts that need them: they change no direction and move no cursor.
_HARMLESS = "\u200c\u200d"
_PLAIN = re.compile(r"[\x20-\x7e]*")


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: `1 file`, `2 files`, `1,200 files`.

    Args:
        count: How many.
        noun: For one.
        plural: For any other count; the noun with an s by default.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def printable(text: object) -> str:
    r"""Text of data as a terminal may be given it: control characters, line breaks and changes of direction are escaped, as in `\x1b`."""
    text = str(text)
    if _PLAIN.fullmatch(text):
        return text
    return "".join(character if _is_printable(character) else _escaped(character) for character in text)


def _is_printable(character: str) -> bool:
    return character.isprintable() or character in _HARMLESS or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
