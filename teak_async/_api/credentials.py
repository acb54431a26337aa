"""App ID and secret, and the redaction of the secret in what a server sends back."""

from __future__ import annotations

import json
import re
from html.entities import codepoint2name

from attrs import field, frozen

BACKSLASH, PERCENT, AMPERSAND, PLUS = b"\\%&+"

MIN_SECRET = 8
"""Characters from which a secret is redacted. Real secrets have many more."""


@frozen
class Credentials:
    """Teak App ID and Teak Server Secret."""

    game_id: str
    secret_key: str = field(repr=False)
    _secret_bytes: bytes = field(init=False, repr=False, eq=False)
    _echo: re.Pattern[bytes] | None = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        # A short secret may be a part of ordinary words, and replacing it there would spoil the response.
        is_redacted = len(self.secret_key) >= MIN_SECRET
        echo = re.compile(pattern_of(self.secret_key)) if is_redacted else None
        object.__setattr__(self, "_echo", echo)
        object.__setattr__(self, "_secret_bytes", self.secret_key.encode())

    def redact(self, body: bytes) -> bytes:
        """Take the secret out of a server's bytes, in every form in which it may be written."""
        if self._echo is None:
            return body
        # The pattern is slow. Most responses have nothing escaped, and a plain search costs next to nothing. It is for numbers
        # and by `find`, since Python makes and drops an error for each `bytes in bytes`.
        if BACKSLASH in body or PERCENT in body or AMPERSAND in body or PLUS in body or body.find(self._secret_bytes) >= 0:
            return self._echo.sub(b"[secret]", body)
        return body


def pattern_of(text: str) -> bytes:
    """Return a pattern for a text in all forms in which a server may write it."""
    return b"".join(map(_forms_of, text))


def _forms_of(letter: str) -> bytes:
    """Return a pattern for all forms of a character: itself, percent-encoded, escaped as in JSON, or as in HTML.

    Each form may be encoded or escaped again, like a URL within a URL. The repetitions are bounded, so that no response takes
    long to search.
    """
    number = ord(letter)
    percent = "".join(f"%(?:25){{0,2}}{_digits(byte, 2)}" for byte in letter.encode())
    units = memoryview(letter.encode("utf-16-be")).tolist()
    code = "".join(rf"\\{{1,4}}u{_digits(high << 8 | low, 4)}" for high, low in zip(units[::2], units[1::2], strict=True))
    escaped = rf"\\{{1,4}}{re.escape(json.dumps(letter, ensure_ascii=False)[-2])}"  # the n of a line break, or itself
    entity = rf"&(?:amp;){{0,2}}(?:#0{{0,4}}{number}|#[xX]0{{0,4}}{_digits(number, 1)}|{codepoint2name.get(number, '#')});"
    forms = [re.escape(letter), percent, code, escaped, entity, *([r"\+"] if letter == " " else [])]
    return f"(?:{'|'.join(forms)})".encode()


def _digits(number: int, places: int) -> str:
    """Return a pattern for a hexadecimal number, in either case."""
    return "".join(f"[{digit}{digit.lower()}]" if digit.isalpha() else digit for digit in f"{number:0{places}X}")
