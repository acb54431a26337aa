"""What the tests of several packages share."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from functools import wraps
from inspect import signature
from itertools import cycle, product
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import aiohttp
import uvloop
from attrs import frozen

from teak_async import Identify, Limits, Request, RetryPolicy, TeakSession, Timeout
from teak_async._client.executor import CallExecutor
from teak_async._journal.history import iter_in_states
from teak_async._journal.journal import Journal
from teak_async._journal.row import JournalRow, RowState, Write
from teak_async._limits.bucket import Bucket
from teak_async._limits.session_limits import SessionLimits
from teak_async.errors import JournalError
from teak_async.sandbox import GAME_ID, Sandbox

ROOT = Path(__file__).parents[1]
MANY = "CI" in os.environ
"""Whether all rounds and combinations are tried; a plain run tries a few, to be over in two minutes."""
WAIT = 60.0 if MANY else 30.0
"""Seconds after which a test gives up; it never waits as long when all is well. With all rounds, each of which is measured by
coverage, a slow machine has taken half a minute for a command."""
FAST = Limits(5000, 5000)
ABOUT = {"game_id": "1"}
"""What a journal says of a run that is not the sandbox's."""

_SAMPLES = Path(__file__).parent / "samples"


class Answering(aiohttp.ClientResponse):
    """What aioresponses makes, given the argument that newer releases of aiohttp want."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "stream_writer" in signature(aiohttp.ClientResponse).parameters:
            kwargs.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(*args, **kwargs)


@frozen
class Ended:
    """A command that came to its end."""

    code: int | None
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The results in the input's order."""
        return sorted((json.loads(line) for line in self.out.splitlines()), key=lambda row: row["index"])


def make_loop(kind: str) -> asyncio.AbstractEventLoop:
    """A loop of a kind: `asyncio`, `debug`, `uvloop`, or `eager`, which starts tasks at once."""
    if kind == "uvloop":
        return uvloop.new_event_loop()
    if kind == "eager":
        if sys.version_info < (3, 12):
            raise RuntimeError("eager tasks are of Python 3.12: take a later one, or another loop")
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop
    return asyncio.new_event_loop()


def pairs(first: Sequence[Any], second: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Every value with every other one, or else each value of the longer sequence with one of the other."""
    if MANY:
        return list(product(first, second))
    if len(first) < len(second):
        return list(zip(cycle(first), second, strict=False))
    return list(zip(first, cycle(second), strict=False))


def each(names: str, cases: Collection[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Like `parametrize`, but all in one test, for many cases that take microseconds; a note names the one that fails."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        first, *others = names.split(", ")

        @wraps(test)
        def tries(**given: Any) -> None:
            assert cases
            for case in cases:
                values = dict(zip((first, *others), case, strict=True)) if others else {first: case}
                try:
                    test(**given, **values)
                except BaseException as error:
                    error.add_note(f"with {values!r:.300}")  # a body may have megabytes
                    raise

        signature = inspect.signature(test)
        left = [parameter for name, parameter in signature.parameters.items() if name not in {first, *others}]
        vars(tries)["__signature__"] = signature.replace(parameters=left)  # so that pytest gives only these
        return tries

    return decorate


def sample(name: str) -> bytes:
    """A recorded body."""
    return (_SAMPLES / f"{name}.json").read_bytes()


def session_on(server: Sandbox, **options: Any) -> TeakSession:
    """A session on a sandbox, impatient enough for tests."""
    options.setdefault("retry", RetryPolicy(initial_wait=0.01, outage=30))
    options.setdefault("timeout", Timeout(connect=5, response=10))
    return TeakSession(server.game_id, server.secret_key, base_url=server.url, **options)


def fast_sandbox(**options: Any) -> Sandbox:
    """A sandbox with limits that no test reaches."""
    return Sandbox(identify=5000, subscription=5000, **options)


def sources_of(path: Path, *states: str) -> list[str | bytes | None]:
    """The sources of the rows of a journal in some states."""
    return [row.source for row in iter_in_states(path, *states)]


def identifies(count: int, start: int = 0) -> Iterator[Request]:
    """Requests for the players `p0`, `p1` and so on."""
    return (Identify(f"p{number}", country_code="US") for number in range(start, count))


def players_csv(count: int) -> str:
    """The text of a file of players to identify."""
    return "user_id,client_ip\n" + "".join(f"p{number},203.0.113.9\n" for number in range(count))


@frozen
class Internals:
    """The parts of a session that tests look at and users do not."""

    executor: CallExecutor
    limits: SessionLimits

    def bucket(self, path: str) -> Bucket:
        """The bucket of a path."""
        return self.limits.buckets[path].bucket


def internals(session: TeakSession) -> Internals:
    """Look inside a session."""
    return Internals(session._executor, session._limits)


def rows_of(journal: Path, columns: str = "row, state") -> list[Any]:
    """What a journal's file says, asked with nothing of ours."""
    with closing(sqlite3.connect(journal)) as connection:
        return connection.execute(f"SELECT {columns} FROM rows ORDER BY row").fetchall()


async def intend_all(path: Path, requests: Iterator[Request]) -> None:
    """Leave a journal as a run leaves it that was killed with these on the wire."""
    journal = await Journal.open(path, {"game_id": GAME_ID})
    rows = (JournalRow.of(index, request, None) for index, request in enumerate(requests))
    await asyncio.gather(*(write_durably(journal, row, RowState.of("intent")) for row in rows))
    await journal.close()


def write_durably(journal: Journal, row: JournalRow, state: RowState) -> asyncio.Future[None]:
    """Write how far a row came; the future is done when that is durable."""
    durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def report(_: None, failure: JournalError | None) -> None:
        if failure is None:
            durable.set_result(None)
        else:
            durable.set_exception(failure)

    journal.write(Write(row.id, state, row, report))
    return durable
