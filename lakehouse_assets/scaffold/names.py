"""Names for what is generated: feeds, columns, classes and functions, from what files and their columns are called.

A name has to be good in Python, in a table and in SQL, so keywords and names that the generated modules use get a word in front.
"""

import builtins
import keyword
import re
import unicodedata
from collections.abc import Collection

import lakehouse_assets
from lakehouse_assets.platform.quality.contract import Contract
from lakehouse_assets.scaffold.vocabulary import SQL

# As the generated modules spell what belongs to no German word alone.
_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "ø": "o", "æ": "ae", "ł": "l"})
# Names of the generated modules: of classes and functions, and those that a column would hide from the next line of its contract.
_MODULES = frozenset({"pl", "date", "datetime", "utc", "rows", "typed", "expected", "columns", "from_files", *lakehouse_assets.__all__})
_BESIDE_COLUMNS = frozenset(
    {"pl", "date", "column", "rule", "Contract", "Timestamp", "str", "int", "float", "bool", "day", "month", "rows"}
)
_OF_CONTRACTS = frozenset(name for name in dir(Contract) if not name.startswith("_"))
_LONGEST = 60


def words_of(text: str) -> list[str]:
    """The words of a name in lower case: `CustomerID`, `customer id` and `customer_id` have the same two."""
    plain = unicodedata.normalize("NFKD", text.translate(_LETTERS)).encode("ascii", "ignore").decode()
    parts = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", plain))
    return [word.lower() for word in re.findall(r"[A-Za-z]+|[0-9]+", parts)]


def plain(text: str) -> str:
    """A text as a name of small letters, digits and underscores; empty if nothing of it can be one."""
    # A digit stays with the letters before it: `line 2` is `line_2`, and `line2` stays.
    joined = re.sub(r"(?<=[a-z])_(?=[0-9])", "_" if re.search(r"[A-Za-z][ _-][0-9]", text) else "", "_".join(words_of(text)))
    return joined[:_LONGEST].strip("_")


def column_names(columns: Collection[str], singular_name: str) -> dict[str, str]:
    """For each column of a file the name that it has in silver: its own where that is possible, else with what a row is in front."""
    given: dict[str, str] = {}
    for position, column in enumerate(columns, start=1):
        name = plain(column)
        if not name:
            name = f"{singular_name}_column_{position}"
        elif not is_free(name):
            name = f"{singular_name}_{name}"
        given[column] = unused(name, given.values())
    return given


def is_free(name: str) -> bool:
    """Whether a column may be called so."""
    return is_free_in_python(name) and name not in SQL


def is_free_in_python(name: str) -> bool:
    """Whether a column of a table may be called so in a contract; in SQL it has its name already."""
    return name.isidentifier() and not keyword.iskeyword(name) and name not in _BESIDE_COLUMNS | _OF_CONTRACTS


def unused(name: str, taken: Collection[str]) -> str:
    """The name, with a number after it if it is taken."""
    number, chosen = 2, name
    while chosen in taken:
        chosen, number = f"{name}_{number}", number + 1
    return chosen


def feed_name(file_name: str, product: str, taken: Collection[str]) -> str:
    """What a feed is called by the name of a file: `loans_2024-01.csv` brings `loans`."""
    stem = re.sub(r"\.(gz|zst)$", "", file_name, flags=re.IGNORECASE).rsplit(".", 1)[0]
    words = [word for word in words_of(stem) if not word.isdigit()]
    name = "_".join(words)[:_LONGEST].strip("_") or "rows_of_" + product
    # What begins with test_ is a test to pytest, where it is imported.
    is_taken = name in taken or name.startswith("test") or keyword.iskeyword(name) or name in _MODULES or hasattr(builtins, name)
    return unused(f"{product}_{name}" if is_taken else name, taken)


def singular(name: str) -> str:
    """What one row of a table is: `loans` has loans, `categories` a category each."""
    for ending, single in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("ss", "ss"), ("us", "us"), ("is", "is"), ("s", "")):
        if name.endswith(ending):
            return name.removesuffix(ending) + single if len(name) > len(ending) + 1 else name
    return name


def class_name(name: str) -> str:
    """A name as that of a class."""
    camel = "".join(word.capitalize() for word in name.split("_"))
    return f"{camel}Row" if camel in lakehouse_assets.__all__ or hasattr(builtins, camel) else camel
