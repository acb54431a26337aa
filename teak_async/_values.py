"""Convert values to their one plain text, and check whole numbers. Pure.

A value with one plain text is that text in a query, a body, a path and a journal alike. A value that has none, or that may
have been changed on its way (a float), stays as it is, and the request is invalid.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from datetime import UTC, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, SupportsIndex, TypeAlias, cast
from uuid import UUID

from attrs import Attribute

PlainText: TypeAlias = str | Enum | UUID | IPv4Address | IPv6Address | tzinfo
"""The types taken as text; an enumeration's member by its value."""
PlainId: TypeAlias = PlainText | SupportsIndex | Decimal
"""The types taken as the text of an identifier: whole numbers, too, of any library."""

MAX_BITS = 4096
"""Bits of a whole number below which it is converted: Python refuses to write out numbers of thousands of digits."""


def to_text(value: PlainText) -> str:
    """Return the plain text of a value that has one, and any other value unchanged."""
    return value if type(value) is str else cast(str, _text_of(value, numbers=False))


def to_optional_text(value: PlainText | None) -> str | None:
    """Return the plain text of a value that has one, and any other value, `None` too, unchanged."""
    return value if value is None or type(value) is str else cast(str, _text_of(value, numbers=False))


def to_id(value: PlainId) -> str:
    """Return the plain text of a value that has one, whole numbers too, and any other value unchanged."""
    return value if type(value) is str else cast(str, _text_of(value, numbers=True))


def _text_of(value: Any, *, numbers: bool) -> Any:
    plain = value.value if isinstance(value, Enum) else value
    if isinstance(plain, str):
        # A copy without the subclass: its own `__str__`, or an encoder's view of it, may differ.
        return str.__str__(plain)
    if isinstance(plain, UUID | IPv4Address | IPv6Address):
        return str(plain)
    if isinstance(plain, tzinfo):
        return _zone_of(plain) or value
    number = _whole_number(plain) if numbers else None
    return value if number is None else int.__repr__(number)


def _zone_of(zone: tzinfo) -> str | None:
    """Return the IANA name of a time zone: `ZoneInfo` has a key, pytz's zones have a `zone`."""
    if zone is UTC:
        return "UTC"
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    return str.__str__(name) if isinstance(name, str) else None


def _whole_number(value: Any) -> int | None:
    if isinstance(value, Decimal):
        # `12.0` and `1E+3` have two texts, and a spreadsheet or a rounding may have made them.
        _, digits, exponent = value.as_tuple()
        value = int(value) if exponent == 0 and len(digits) < MAX_BITS // 4 else None
    elif isinstance(value, Fraction):
        value = value.numerator if value.denominator == 1 else None
    if type(value).__name__ in ("bool", "bool_"):  # numpy has its own, which older releases count as a number
        return None
    try:
        number = operator.index(value)
    except TypeError:
        return None
    return number if number.bit_length() < MAX_BITS else None


def problem_of(value: object, *, numbers: bool) -> str:
    """Return why a value has no plain text, and what to do."""
    wanted = "text or a whole number" if numbers else "text"
    kind = type(value).__name__
    plain = value.value if isinstance(value, Enum) else value
    if isinstance(plain, bytes | bytearray | memoryview):
        hint = "; decode it"
    elif isinstance(plain, int) and not isinstance(plain, bool) and numbers:
        return "must be a number of fewer digits"
    elif isinstance(plain, float | Decimal | Fraction) or (hasattr(plain, "__float__") and not isinstance(plain, int)):
        hint = "; a spreadsheet or pandas may have changed this number"
    else:
        hint = ""
    return f"must be {wanted}, not {kind}{hint}"


def check_whole(name: str, value: object, least: int) -> None:
    """Raise an error unless a value is a whole number from `least` on; `name` stands in messages."""
    wrong = f"{name} must be a whole number from {least} on, not {value!r}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(wrong)
    if value < least:
        raise ValueError(wrong)


def whole_from(least: int) -> Callable[[object, Attribute[int], object], None]:
    """Make the validator of an attrs field that is a whole number from `least` on."""
    return lambda _, attribute, value: check_whole(attribute.name, value, least)


_NO_ADDRESS = {"unknown", "null", "none", "nan", "nil", "undefined", "n/a", "na", "<na>", "-", "\\n", "_"}
"""Words that programs write in place of an unknown address."""
_KINDS: tuple[tuple[str, str], ...] = (
    (r"\w+://.*", "a URL"),
    (r"(?i)(.*;)?\s*(for|by)=.*", "a Forwarded header; give the address in it"),
    (r"[^,]+(,[^,]*)+|[0-9A-Fa-f.:]+(\s+[0-9A-Fa-f.:]+)+", "several addresses; give the player's, mostly the first"),
    (r"\s.*|.*\s", "an address or a word with white space around it"),
    (r"[\"'].*[\"']", "text in quotation marks"),
    (r"[^@\s]+@[^@\s]+", "an email address"),
    (r"\d+(\.\d+){3}:\d*|\[.*\]:\d*", "an address with a port"),
    (r"\[.*\]", "an address in brackets"),
    (r"[0-9A-Fa-f.:]+/[\d.]+", "a network, or an address with a prefix length"),
    (r".*[/\\].*", "a path"),
    (r"(?=.*\b0\d)\d+(\.\d+){3}", "an address with leading zeros"),
    (r"\d+", "a whole number"),
    (r"\d+(\.\d+)*\.?", "other numbers with dots"),
    (r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", "other digits with colons"),
    (r"[\w-]+(\.[\w-]+)*\.?:\d+", "a host name with a port"),
    (r"[\w-]+(\.[\w-]+)*\.?", "a host name"),
)


_IPV4 = re.compile(r"\.".join(["(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"] * 4))


def kind_of_address(text: str) -> str | None:
    """Return the kind of a text that is no IP address, or `None` for an IP address."""
    if _IPV4.fullmatch(text):  # matches nearly every address, in a third of the time that `ip_address` takes
        return None
    try:
        ip_address(text)
    except ValueError:
        if text.strip().lower() in _NO_ADDRESS:
            return "a word for no address; give a country_code, or 127.0.0.1 if the place is not known"
        found = (kind for pattern, kind in _KINDS if re.fullmatch(pattern, text[:200], re.DOTALL))
        return next(found, "other text")
    return None
