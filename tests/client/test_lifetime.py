"""A session is used from its opening to its closing, on one loop, in one process, and says so at once where it is not."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from textwrap import dedent
from typing import Any

import pytest
from support import ROOT, session_on

from teak_async import Identify, Request, SessionClosed, TeakSession
from teak_async.sandbox import Sandbox


def run_script(text: str, url: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own against a sandbox."""
    return subprocess.run(
        [sys.executable, "-c", dedent(text), url], capture_output=True, text=True, timeout=30, check=False, cwd=ROOT
    )


async def opened(url: str) -> TeakSession:
    return await TeakSession("sandbox", "sandbox-secret", base_url=url).open()


def uses(teak: TeakSession) -> list[Any]:
    """The ways to use a session."""
    return [
        lambda: teak.identify("p1", country_code="US"),
        lambda: teak.desktop_push.status("p1"),
        lambda: teak.call(Identify("p1", country_code="US")),
        lambda: submitted(teak),
        lambda: teak.bulk([Identify("p1", country_code="US")]),
        teak.close,
    ]


async def submitted(teak: TeakSession) -> Any:
    return await teak.submit(Identify("p1", country_code="US"))


@pytest.mark.parametrize("way", range(6))
@pytest.mark.parametrize("before", ["ended", "running"])
async def test_another_loop(sandbox: Sandbox, way: int, before: str) -> None:
    """It is an error at once, whether the session's loop goes on or has ended, and nothing is sent."""
    errors: list[BaseException] = []

    def use_in_turn() -> None:
        first = asyncio.new_event_loop()
        teak = first.run_until_complete(opened(sandbox.url))
        if before == "ended":
            first.run_until_complete(teak._transport.close())
            first.close()

        async def use() -> None:
            async with asyncio.timeout(2):
                await uses(teak)[way]()

        second = asyncio.new_event_loop()
        with pytest.raises(SessionClosed) as closed:
            second.run_until_complete(use())
        errors.append(closed.value)
        second.close()
        if before == "running":
            first.run_until_complete(teak.close())
            first.close()

    thread = threading.Thread(target=use_in_turn)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.01)
    assert "another event loop" in str(errors[0])
    assert not sandbox.requests


@pytest.mark.parametrize(
    "use",
    [
        lambda teak, request: teak.submit(request),
        lambda teak, request: teak.submit(request, deadline=2),
        lambda teak, request: teak.bulk([request], deadline=2),
        lambda teak, request: teak.bulk([request], deadline=timedelta(hours=1)),
    ],
)
async def test_another_thread(use: Callable[[TeakSession, Request], object], teak: TeakSession, sandbox: Sandbox) -> None:
    """What a thread that has no loop cannot use says what to use instead."""
    with pytest.raises(SessionClosed, match="run_coroutine_threadsafe"):
        await asyncio.to_thread(use, teak, Identify("p1", country_code="US"))
    assert not sandbox.requests


@pytest.mark.parametrize("call", ["teak.identify('p', country_code='US')", "teak.desktop_push.status('p')", "teak.close()"])
async def test_a_forked_child(sandbox: Sandbox, call: str) -> None:
    """The child has an error at once, and the parent's connections stay its own."""
    script = f"""
        import asyncio, os, sys
        from teak_async import SessionClosed, TeakSession

        async def parent():
            async with TeakSession("sandbox", "sandbox-secret", base_url=sys.argv[1]) as teak:
                await teak.identify("before", country_code="US")
                child = os.fork()
                if not child:
                    try:
                        asyncio.run(use(teak))
                    except SessionClosed as closed:
                        print("child:", closed, flush=True)
                    os._exit(0)
                while os.waitpid(child, os.WNOHANG) == (0, 0):
                    await asyncio.sleep(0.01)
                await teak.identify("after", country_code="US")
                print("parent: done")

        async def use(teak):
            await {call}

        asyncio.run(parent())
    """
    ended = await asyncio.to_thread(run_script, script, sandbox.url)
    child, parent = ended.stdout.splitlines()
    assert child.endswith("the session was opened before this process was forked: open one in each process, after the fork")
    assert (parent, ended.stderr) == ("parent: done", "")
    assert {received.user_id for received in sandbox.requests} == {"before", "after"}


@pytest.mark.parametrize(
    ("end", "left"),
    [
        ("", 0),
        ("[teak.submit(Identify(f'p{n}', country_code='US')) for n in range(7)]", 7),
        ("await teak.identify('p', country_code='US')", 0),
        ("raise KeyboardInterrupt", 0),
    ],
)
async def test_a_program_that_ends_without_closing(sandbox: Sandbox, end: str, left: int) -> None:
    """It is told once what was left, by the session and not by the libraries below it."""
    script = f"""
        import asyncio, logging, sys
        from teak_async import Identify, TeakSession

        async def main():
            global teak
            teak = await TeakSession("sandbox", "sandbox-secret", base_url=sys.argv[1]).open()
            {end}

        logging.basicConfig()
        asyncio.run(main())
    """
    ended = await asyncio.to_thread(run_script, script, sandbox.url)
    told = [line for line in ended.stderr.splitlines() if "never closed" in line]
    assert len(told) == 1, ended.stderr
    assert f"submitted calls were left: {left};" in told[0]
    assert "Unclosed" not in ended.stderr


async def test_a_session_that_was_closed_says_nothing(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Also when it is dropped."""
    gc.collect()  # what other tests have dropped says it now
    caplog.clear()
    async with session_on(sandbox) as teak:
        await teak.identify("p1", country_code="US")
    del teak
    gc.collect()
    assert "never closed" not in caplog.text
