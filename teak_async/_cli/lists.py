"""Writes lists that the server gives in pages as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from attrs import asdict

from teak_async._session import TeakSession
from teak_async.models import Exclusion, ExclusionPage, ListExclusions, ListUnsubscriptions, OptOutCategory, UnsubscriptionPage

from .signals import LISTENER


async def write_exclusions(session: TeakSession, after: str | None, write: Callable[[str], object]) -> None:
    """Write the game's exclusions.

    Args:
        session: not opened yet.
        after: the cursor after which to begin; `None` for the first page.
        write: called with the lines of each page.
    """
    async with session as teak:
        page: ExclusionPage | None = None
        while page is None or after is not None:
            page = await teak.call(ListExclusions(after=after))
            after = _write_page(map(_describe, page), page.after, write)


async def write_unsubscriptions(
    session: TeakSession, since: datetime, after: str | None, write: Callable[[str], object]
) -> None:
    """Write the addresses that opted out since a time; see `write_exclusions`."""
    async with session as teak:
        page: UnsubscriptionPage | None = None
        while page is None or after is not None:
            page = await teak.call(ListUnsubscriptions(since, after=after))
            # The time itself, since "2h ago" is another one by then.
            since_then = f"--since {since.isoformat(timespec='seconds')} "
            after = _write_page((entry.details for entry in page), page.after, write, since_then)


async def write_categories(session: TeakSession, write: Callable[[str], object]) -> None:
    """Write the game's opt-out categories."""
    async with session as teak:
        _write_page(map(_describe, await teak.categories.list()), None, write)


def _write_page(
    entries: Iterable[Mapping[str, Any]], after: str | None, write: Callable[[str], object], options: str = ""
) -> str | None:
    """Write a page whole. An interruption after it says how to go on."""
    lines = [json.dumps(entry, ensure_ascii=False) for entry in entries]
    if lines:
        write("\n".join(lines))
    if after is not None:
        LISTENER.set_exit_message(f"to go on after the pages that were written: {options}--after {after}")
    return after


def _describe(entry: Exclusion | OptOutCategory) -> dict[str, Any]:
    return asdict(entry, value_serializer=lambda _, __, value: value.isoformat() if isinstance(value, datetime) else value)
