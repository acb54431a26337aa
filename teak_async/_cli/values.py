r"""Finds words for a missing value, and ids that another program has changed. Pure.

Invariants:

- A row whose user_id is `nan` or `1.23457E+17` fails, since a call for such a player cannot be undone. `--as-is` sends it.
- Any other parameter is empty if its value is a word for a missing value (`\N`, `NULL`). The country `NA` is Namibia.
"""

from __future__ import annotations

import re
import unicodedata

from attrs import define, field, frozen

NO_VALUES = frozenset(
    {r"\N", "NULL", "null", "None", "nan", "NaN", "<NA>", "N/A", "#N/A"}  # warehouses, pandas, spreadsheets
    | {"NA", "n/a", "NaT", "<null>", "[NULL]", "(null)"}  # R, pandas, the grids of DataGrip, DBeaver, Toad
    | {"#NULL!", "#VALUE!", "#REF!", "#NAME?", "#DIV/0!", "#NUM!"}  # formulas that failed
)
"""Words for a missing value."""

NO_VALUE = "a word for a missing value, taken as empty"
NO_USER_ID = "a user_id that is a word for a missing value"
UNREADABLE = "control, zero-width or lost characters"
_SPACES = " \u00a0\u2009\u202f"
_CHANGED: tuple[tuple[str, str, str], ...] = (
    (
        r"[+-]?\d+(?:[.,]\d+)?[eE][+-]\d+",
        "a user_id with an exponent",
        "a spreadsheet or pandas has rounded this number; export the column as text",
    ),
    (
        r"[+-]?\d+[.,]0+",
        "a user_id that ends in .0",
        "a spreadsheet or pandas has made a decimal of this number; export the column as a whole number or as text",
    ),
    (
        r"=.*",
        "a user_id in a spreadsheet's formula",
        "this is a spreadsheet's formula; export the value alone",
    ),
    (
        r"'\d.*",
        "a user_id behind a spreadsheet's apostrophe",
        "a spreadsheet marks text by this apostrophe; export the value alone",
    ),
    (
        rf"[+-]?\d{{1,3}}([,.'\u2019{_SPACES}])\d{{3}}(?:\1\d{{3}})*",
        "a user_id with thousands separators",
        "a spreadsheet has put separators into this number; export it without a number format",
    ),
    (
        r"""b(['"]).*\1""",
        "a user_id in Python's notation for bytes",
        "a Python program has written bytes without decoding them; decode the column before the export",
    ),
)
MAYBE_CHANGED = re.compile(rf"""=|'\d|b['"]|[+-]?\d+[eE.,'\u2019{_SPACES}]""")
"""How a changed id begins. Most ids do not, and need no further pattern."""
_CHANGES = tuple((re.compile(pattern), kind, problem) for pattern, kind, problem in _CHANGED)
_INVISIBLE = {"Cc": "a control character", "Cf": "a zero-width character", "Zl": "a line break", "Zp": "a line break"}
LOST = "\ufffd"
"""The character that a conversion writes in place of one that it cannot decode."""


@frozen
class Finding:
    """What is odd about a value.

    Attributes:
        kind: the words under which a dry run counts it.
        problem: why the row fails; `None` when the value is taken as empty.
    """

    kind: str
    problem: str | None = None


@define
class Findings:
    """Counts the findings in an input by kind. The first of each kind is the example."""

    counts: dict[str, int] = field(factory=dict)
    first: dict[str, str] = field(factory=dict)

    def add(self, kind: str, example: str) -> None:
        """Count a finding."""
        if kind not in self.counts:
            self.counts[kind] = 0
            self.first[kind] = example
        self.counts[kind] += 1

    def lines(self) -> list[str]:
        """Describe each kind in a line."""
        return [f"{kind}: {count:,}, the first in {self.first[kind]}" for kind, count in self.counts.items()]


def find_oddity(name: str, text: str, null_words: frozenset[str] = NO_VALUES) -> Finding | None:
    """Return what is odd about the value of a parameter; `None` for nothing.

    Args:
        name: the parameter.
        text: its value, without white space around it.
        null_words: the words for a missing value.
    """
    if text in null_words and not (text == "NA" and name == "country_code"):
        if name != "user_id":
            return Finding(NO_VALUE)
        return Finding(NO_USER_ID, f"{text!r} is a word for a missing value, and no player's id")
    if not text.isprintable() and (problem := _find_invisible(text)):
        return Finding(UNREADABLE, problem)
    if LOST in text:
        return Finding(UNREADABLE, "a conversion has lost a character here (U+FFFD); export it again, as UTF-8")
    if name == "user_id" and MAYBE_CHANGED.match(text):
        for pattern, kind, problem in _CHANGES:
            if pattern.fullmatch(text):
                return Finding(kind, f"{text[:100]!r}: {problem}")
    return None


def _find_invisible(text: str) -> str | None:
    for place, character in enumerate(text, 1):
        if what := _INVISIBLE.get(unicodedata.category(character)):
            return f"has {what} (U+{ord(character):04X}, character {place}); remove it before the export"
    return None
