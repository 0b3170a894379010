"""Whether a column holds personal data, by its name and by what its values are.

The evidence names no value, only counts: it is written into code. What is not seen here is not proved to be harmless.
"""

import re
from collections.abc import Callable, Collection
from itertools import pairwise

import polars as pl

from lakehouse_assets.scaffold.names import words_of
from lakehouse_assets.scaffold.vocabulary import NAME, PEOPLE, PERSONAL, PERSONAL_PAIRS

_EMAIL = r"^[^@\s]+@[^@\s]+\.[^@\s.]+$"
_EMAIL_INSIDE = r"[\w.+-]+@[\w-]+\.[\w.-]+"
_PHONE = r"^(\+|00)[0-9][0-9 ()/.-]{6,18}[0-9]$"
_IPV4 = r"^((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])$"
_IPV6 = r"^([0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{1,4}$"
_IBAN = r"^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$"
_CARD = r"^[0-9]{13,19}$"
# As in Ann Smith or O'Neill, Maria-Jo.
_FULL_NAME = r"^\p{L}[\p{L}'\x{2019}.-]*,?( \p{L}[\p{L}'\x{2019}.-]*)+$"
_MOST = 2_000


def is_iban(text: str) -> bool:
    """Whether the check digits of an account number are right (ISO 13616)."""
    compact = text.replace(" ", "").upper()
    if not re.fullmatch(_IBAN, compact):
        return False
    return int("".join(str(int(letter, 36)) for letter in compact[4:] + compact[:4])) % 97 == 1


def is_card(text: str) -> bool:
    """Whether the check digit of a card number is right (Luhn), and it begins as payment cards do."""
    compact = re.sub(r"[ -]", "", text)
    if not re.fullmatch(_CARD, compact) or compact[0] not in "23456":
        return False
    digits = [int(digit) for digit in reversed(compact)]
    return (sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])) % 10 == 0


_CONTENT: tuple[tuple[str, Callable[[pl.Series], int]], ...] = (
    ("an e-mail address", lambda texts: _fit(texts, _EMAIL)),
    ("an account number with right check digits (IBAN)", lambda texts: sum(map(is_iban, texts))),
    ("a card number with a right check digit", lambda texts: sum(map(is_card, texts))),
    ("an IP address", lambda texts: _fit(texts, f"{_IPV4}|{_IPV6}")),
    ("a phone number", lambda texts: _fit(texts, _PHONE)),
)


def _fit(texts: pl.Series, pattern: str) -> int:
    return int(texts.str.contains(pattern).sum())


def by_name(column: str) -> str | None:
    """The evidence in the name of a column."""
    words = words_of(column)
    pairs = set(pairwise(words)) | set(zip(words, words[2:], strict=False))
    whole = "".join(words)
    of_person = bool(NAME & set(words)) and bool(PEOPLE & set(words))
    if PERSONAL & {*words, whole} or pairs & PERSONAL_PAIRS or of_person:
        return "by its name"
    return None


def is_bare_name(column: str) -> bool:
    """Whether a column is just called name, of a person or of a thing."""
    return len(words := words_of(column)) == 1 and words[0] in NAME


def are_full_names(column: str, texts: pl.Series) -> bool:
    """Whether a column that is called after people, and nothing else, has values of several words without a digit."""
    words = words_of(column)
    return len(words) == 1 and is_about_people(words) and not texts.is_empty() and _fit(texts, _FULL_NAME) * 2 >= texts.len()


def is_about_people(words: Collection[str]) -> bool:
    """Whether words name people."""
    return bool(PEOPLE & {*words, *(word.removesuffix("s") for word in words)})


def by_content(texts: pl.Series) -> str | None:
    """The evidence in the values of a column, which are texts without blanks around them and none of them empty."""
    texts = texts.unique().head(_MOST)
    if texts.is_empty():
        return None
    for what, count in _CONTENT:
        # Of random digits one in ten has a right check digit.
        if (found := count(texts)) * 2 >= texts.len():
            return f"by its content: {what} in {found:,} of {texts.len():,} different values"
    if inside := _fit(texts, _EMAIL_INSIDE):
        return f"by its content: an e-mail address within the text of {inside:,} of {texts.len():,} different values"
    return None
