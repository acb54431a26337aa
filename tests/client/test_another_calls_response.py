"""A connection on which the responses are one off: the next call must not get what was meant for this one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from teak_async import Delivery, TeakSession, Timeout, UnexpectedResponse


class OneOff:
    """Answers every set on a connection with what the set before it on that connection asked for."""

    def __init__(self) -> None:
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        before: dict[str, Any] = {"user_id": "somebody", "state": "opt_in"}
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                asked = json.loads(await reader.readexactly(lengths[0]))
                said = {
                    "status": "ok",
                    "channel": "desktop_push",
                    "reachable": True,
                    "previous_state": "opt_in",
                    "categories": {},
                }
                body = json.dumps(said | {"user_id": before["user_id"], "state": before["state"]})
                before = asked
                text = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
                writer.write(text.encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.mark.parametrize("calls", [["p1", "p1"], ["p1", "p2"], ["p1", "p2", "p1"]])
async def test_such_a_connection_is_closed(calls: list[str]) -> None:
    """Each call says that nobody knows what became of it, and none takes the response of the one before."""
    server = OneOff()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    url = "http://{}:{}".format(*listening.sockets[0].getsockname())
    async with TeakSession("1", "s", base_url=url, timeout=Timeout(connect=2, response=2), retry=None) as teak:
        for user in calls:
            with pytest.raises(UnexpectedResponse) as odd:
                await teak.desktop_push.opt_out(user)
            assert odd.value.delivery is Delivery.UNKNOWN
    listening.close()
    assert server.connections == len(calls)
