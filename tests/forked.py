"""Commands in processes of their own, most of whose start is done before: each is forked from one that has imported all of it.

A command takes most of half a second to import what it runs, and the tests start a hundred. Its process is as real as any: it
has its own number, streams, environment, handlers of signals and end. What a test is about that lies before the command's
first line, or in how Python itself begins, is tried with `python -m teak_async`; and with CI set, everything is.
"""

from __future__ import annotations

import asyncio
import atexit
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache, partial
from multiprocessing import forkserver, reduction
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from unittest.mock import patch

ROOT = Path(__file__).parents[1]
FORKS = sys.platform == "linux" and "CI" not in os.environ


@cache
def context() -> ForkServerContext:
    """The process that others are forked from, as `multiprocessing` has it; its environment knows of no test."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["forked_from"])
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TEAK_")}
    with patch.dict(os.environ, ours | {"PYTHONPATH": os.pathsep.join(sys.path)}, clear=True):
        forkserver.ensure_running()
    return made


@asynccontextmanager
async def command(
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path = ROOT,
    before: tuple[str, ...] = (),
    stdin: int = PIPE,
    stdout: int = PIPE,
    stderr: int = PIPE,
) -> AsyncIterator[Process]:
    """Start a command in a process of its own, and see to it that it does not outlive the test.

    Args:
        arguments: the command's.
        env: its whole environment; what Python reads of it when it begins has it begin anew.
        cwd: the folder that it is to be in.
        before: another program that is to start it.
        stdin: as `asyncio.create_subprocess_exec` takes it, and so the other two.
        stdout: where its results go.
        stderr: where its words go.
    """
    if FORKS and not before and not any(name.startswith("PYTHON") and env[name] != os.environ.get(name) for name in env):
        process = await _fork(arguments, env, cwd, (stdin, stdout, stderr))
    else:
        process = await asyncio.create_subprocess_exec(
            *(*before, sys.executable, "-m", "teak_async", *arguments),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            cwd=cwd,
        )
    async with ended_by_the_test(process):
        yield process


@asynccontextmanager
async def ended_by_the_test(process: Process) -> AsyncIterator[None]:
    """See to it that a process does not outlive its test."""
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@asynccontextmanager
async def sandbox_process(*options: object) -> AsyncIterator[str]:
    """Run the sandbox command on a free port; gives its address."""
    arguments = ("sandbox", "--port", "0", *map(str, options))
    async with command(*arguments, env=os.environ, stdin=DEVNULL, stderr=2) as process:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        yield line.split("at ")[1].split(";")[0]


async def _fork(arguments: tuple[str, ...], env: Mapping[str, str], cwd: Path, streams: tuple[int, int, int]) -> Process:
    theirs, ours, opened = list(streams), [-1, -1, -1], list[int]()
    for number, stream in enumerate(streams):
        if stream == PIPE:
            reader, writer = os.pipe()
            theirs[number], ours[number] = (reader, writer) if number == 0 else (writer, reader)
            opened.append(theirs[number])
        elif stream == DEVNULL:
            theirs[number] = os.open(os.devnull, os.O_RDWR)
            opened.append(theirs[number])
    forked = context().Process(target=_run, args=(_Streams(theirs), arguments, dict(env), cwd), daemon=True)
    forked.start()
    for descriptor in opened:
        os.close(descriptor)
    transport = _Transport(forked)
    await transport.connect(ours)
    return Process(transport, transport.streams, asyncio.get_running_loop())  # type: ignore[arg-type] # only these are used


class _Streams:
    """Descriptors on their way to another process."""

    def __init__(self, descriptors: list[int]) -> None:
        self._descriptors = descriptors

    def __reduce__(self) -> tuple[Any, ...]:
        return _Streams._received, ([reduction.DupFd(descriptor) for descriptor in self._descriptors],)

    @staticmethod
    def _received(descriptors: list[Any]) -> list[int]:
        return [descriptor.detach() for descriptor in descriptors]


class _Transport(asyncio.SubprocessTransport):
    """What `asyncio` does its work with in a process of its own making, for one that was forked elsewhere."""

    def __init__(self, process: ForkServerProcess) -> None:
        super().__init__()
        self._process = process
        self._pipes: list[Any] = [None, None, None]
        self._ended = asyncio.Event()
        self.streams = SimpleNamespace(stdin=None, stdout=None, stderr=None)

    async def connect(self, descriptors: list[int]) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._process.sentinel, self._end)
        for number, (name, descriptor) in enumerate(zip(("stdin", "stdout", "stderr"), descriptors, strict=True)):
            if descriptor < 0:
                continue
            if name == "stdin":
                pipe, flow = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(descriptor, "wb", 0))
                self._pipes[number] = pipe
                self.streams.stdin = asyncio.StreamWriter(pipe, flow, None, loop)
            else:
                reader = asyncio.StreamReader()
                made = partial(asyncio.StreamReaderProtocol, reader)
                self._pipes[number], _ = await loop.connect_read_pipe(made, os.fdopen(descriptor, "rb", 0))
                setattr(self.streams, name, reader)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._ended.set()
        if self._pipes[0] is not None:
            self._pipes[0].close()

    def get_pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def get_returncode(self) -> int | None:
        return self._process.exitcode if self._ended.is_set() else None

    def get_pipe_transport(self, fd: int) -> Any:
        return self._pipes[fd]

    def send_signal(self, signal: int) -> None:
        if self.get_returncode() is None:
            os.kill(self.get_pid(), signal)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def _wait(self) -> int | None:
        await self._ended.wait()
        return self.get_returncode()


def _run(streams: list[int], arguments: tuple[str, ...], env: dict[str, str], cwd: Path) -> NoReturn:
    """Be the command, in the process that was forked for it."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (
        open(0, encoding="utf-8", closefd=False),  # noqa: SIM115 - they live as long as the process
        open(1, "w", encoding="utf-8", closefd=False),  # noqa: SIM115 - as above
        open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False),  # noqa: SIM115 - as above
    )
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc] # as Python begins
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["teak-async", *arguments]
    os._exit(_code())


def _code() -> int:
    """Run to the end as Python does, with what was registered for it; gives the exit code."""
    from teak_async._cli.main import run  # noqa: PLC0415 - the tests' own process does not need it

    code = 0
    try:
        run()
    except SystemExit as left:
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:  # noqa: BLE001 - as Python does
        traceback.print_exc()
        code = 1
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        code = 120
    with suppress(OSError):
        sys.stderr.flush()
    return code
