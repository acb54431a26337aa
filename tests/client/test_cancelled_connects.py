"""Calls cancelled at random moments, many while they connect, beside others that none of it may touch."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest
from support import FAST, MANY, WAIT, sample

from teak_async import RetryPolicy, TeakSession, Timeout

ROUNDS = 40 if MANY else 2
PAIRS = 250
"""Calls of a round that are cancelled, and as many that are not."""

BODY = sample("identify.201")
HEAD = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n"
RESPONSE = HEAD.format(len(BODY)).encode() + BODY


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """RawResponse one request and close, so that every call has to connect."""
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(RESPONSE)
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def full(listener: socket.socket) -> list[socket.socket]:
    """Fill a listener's queue, so that connecting to it takes until it is emptied."""
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
    return fillers


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_calls_cancelled_while_connecting_harm_no_other_call(seed: int) -> None:
    """None of the others fails or waits for the connect timeout: a descriptor is free only when nothing watches it any more."""
    draw = random.Random(seed)
    loop = asyncio.get_running_loop()
    listener = socket.socket()
    fillers = full(listener)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with TeakSession(
        "1",
        "secret-key",
        base_url=url,
        limits=FAST,
        retry=RetryPolicy(max_attempts=1),
        timeout=Timeout(connect=WAIT, response=WAIT),
    ) as teak:

        async def other(number: int) -> float:
            began = loop.time()
            await teak.identify(f"o{number}", country_code="US")
            return loop.time() - began

        victims = [asyncio.create_task(teak.identify(f"v{number}", country_code="US")) for number in range(PAIRS)]
        others: list[asyncio.Task[float]] = []
        await asyncio.sleep(0.05)
        for number, victim in enumerate(draw.sample(victims, PAIRS)):
            others.append(asyncio.create_task(other(number)))
            for _ in range(draw.randrange(5)):
                await asyncio.sleep(0)
            victim.cancel()
        server = await asyncio.start_server(answer, sock=listener, backlog=4 * PAIRS)
        times = await asyncio.gather(*others)
        ends = await asyncio.gather(*victims, return_exceptions=True)
    for filler in fillers:
        filler.close()
    server.close()
    assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    assert max(times) < WAIT - 1
