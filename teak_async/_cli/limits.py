"""Shows the members of a ledger of shared limits, as text or JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from attrs import asdict

from teak_async._fleet.ledger import BucketRecord, Ledger, LedgerDownError, describe, path_of
from teak_async._fleet.member import ledger_at
from teak_async.errors import LedgerError, LedgerUnavailable

EVERY = 1.0
"""Seconds between two reads of `--watch`."""


async def show_limits(address: str, say: Callable[[str], object], *, watch: bool, as_json: bool) -> None:
    """Show a ledger; with `watch` again every second, until an interrupt.

    Raises:
        ValueError: when the address is not that of a ledger.
        LedgerError: when there is no ledger.
        LedgerUnavailable: when it cannot be reached.
    """
    path = path_of(address)
    if path is not None and not path.exists():
        raise LedgerError(
            f"{path}: no such ledger; name the one of a command's --share, or of TEAK_SHARE; the first that opens it makes it"
        )
    ledger = ledger_at(address)
    try:
        await ledger.open()
        while True:
            records = await read_records(ledger)
            say(json.dumps([asdict(record) for record in records]) if as_json else describe_records(records))
            if not watch:
                return
            await asyncio.sleep(EVERY)
    except LedgerDownError as error:
        raise LedgerUnavailable(str(error)) from None
    finally:
        await ledger.close()


async def read_records(ledger: Ledger) -> list[BucketRecord]:
    """Read the buckets that have members, by game and path. A game is shown by the first letters of its digest."""
    records = []
    for key, state in sorted((await ledger.read()).items()):
        _, game, bucket = key.split(":", 2)
        record = describe(state, f"{game.strip('{}')[:8]} {bucket}")
        if record.members:
            records.append(record)
    return records


def describe_records(records: list[BucketRecord]) -> str:
    """Return a table for each bucket that is in use, or else for the first, and a line for each other one."""
    if not records:
        return "no members"
    # Who holds more than the permit that an idle member keeps has used them; the rate is that of its last sync.
    busy = [record for record in records if any(member.bulk or member.rate or member.held > 1 for member in record.members)]
    busy = busy or records[:1]
    idle = [_describe_record(record)[0] + ", idle" for record in records if record not in busy]
    return "\n\n".join(["\n".join(_describe_record(record)) for record in busy] + (["\n".join(idle)] if idle else []))


def _describe_record(record: BucketRecord) -> list[str]:
    held = sum(member.held for member in record.members)
    lowered = f", {record.allowance} for now" if record.allowance < record.limit else ""
    count = f"{len(record.members)} member{'s' if len(record.members) > 1 else ''}"
    lines = [f"{record.bucket}: {record.limit} a second{lowered}; {count}, {held} permits held"]
    width = max(len(member.host) for member in record.members)
    lines.append(f"  {'host':<{width}}  process  work  permits  a second  last seen")
    for member in record.members:
        work, seen = "bulk" if member.bulk else "live", f"{member.unseen:.1f} s ago"
        lines.append(f"  {member.host:<{width}}  {member.process:>7}  {work}  {member.held:>7}  {member.rate:>8}  {seen:>9}")
    return lines
