"""A player started a session: the request and its response. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import final

from attrs import field, frozen

from teak_async._values import PlainText, kind_of_address, to_optional_text

from .base import PlayerRequest, Problems, Response
from .subscriptions import State

_COUNTRY = re.compile("[A-Z]{2}")


@frozen
class PlayerSession(Response):
    """The response to `Identify`.

    Attributes:
        session_id: the session's id; `None` when the server did not track it.
        country_code: two letters; empty when the lookup failed.
        opt_out_states: per channel (`email`, `push`, `sms`) its state; text where the server names another state.
        deep_link: the link resolved; `None` when none was sent.
    """

    country_code: str
    opt_out_states: Mapping[str, State | str] = field(hash=False)
    session_id: str | None = None
    deep_link: str | None = None


def _to_country(value: PlainText | None) -> str | None:
    text = to_optional_text(value)
    return text.upper() if isinstance(text, str) and text.isascii() else text


@final
@frozen
class Identify(PlayerRequest[PlayerSession]):
    """A player started a session: `POST /v2/identify`. Every one that the server processes is a new session.

    Teak's page: "Server to Server Player Sessions".

    Args:
        user_id: the game's own player id; a number is taken as its text.
        client_ip: the player's address, also as an `ipaddress` object, for country lookup. This or `country_code` is needed:
            give `127.0.0.1` when neither is known.
        country_code: two letters (ISO 3166-1), in place of `client_ip`, which wins if both are given.
        timezone_id: IANA name such as `Europe/Paris`, or a `ZoneInfo`; the server takes UTC when left out.
        email: stored for the player.
        deep_link: comes back resolved in the response.

    Raises:
        InvalidRequest: with every problem in `.errors`.
    """

    client_ip: str | None = field(default=None, converter=to_optional_text, kw_only=True)
    country_code: str | None = field(default=None, converter=_to_country, kw_only=True)
    timezone_id: str | None = field(default=None, converter=to_optional_text, kw_only=True)
    email: str | None = field(default=None, converter=to_optional_text, kw_only=True, repr=False)
    deep_link: str | None = field(default=None, converter=to_optional_text, kw_only=True)

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        if self.client_ip is None and self.country_code is None:
            problems.add(
                "location", "either client_ip or country_code is needed (client_ip='127.0.0.1' if the place is not known)"
            )
        ip = self.client_ip
        if ip is not None and problems.check_text("client_ip", ip) and (kind := kind_of_address(ip)):
            # Not quoted, since errors are logged and this may be a player's address, with a port or beside a proxy's.
            problems.add("client_ip", f"must be one IPv4 or IPv6 address, not {kind}")
        code = self.country_code
        if code is not None and problems.check_text("country_code", code) and not _COUNTRY.fullmatch(code):
            # Quoted if it is short, as a slip is. A longer text may be of another column.
            quoted = f", not {code!r}" if len(code) <= 3 else ""
            problems.add("country_code", f"must be a two-letter ISO country{quoted}")
        if self.timezone_id is not None:
            problems.check_text("timezone_id", self.timezone_id)
        if self.email is not None:
            problems.check_text("email", self.email)
        if self.deep_link is not None:
            problems.check_text("deep_link", self.deep_link)
