"""One long run with random faults of a server, and members that come, go and are killed."""

from __future__ import annotations

import random
import signal
import time

import pytest
from support import MANY

from benchmarks.fleet import NETWORK, busiest
from benchmarks.members import Member, Valkey, Work
from benchmarks.processes import Setting, served

FAULTS = 50
LIMIT = 60
WORKS = [Work(bulk=True, limit=LIMIT, response=10.0), Work(live=4, limit=LIMIT, response=10.0)]


def hurt(draw: random.Random, server: Valkey) -> None:
    """Kill the server and start it empty, stop it for a while, or kill it twice."""
    assert server.process is not None
    what = draw.choice(["restart", "stop", "blink"])
    if what == "stop":
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(draw.uniform(0.2, 2.0))
        server.process.send_signal(signal.SIGCONT)
    else:
        server.kill()
        time.sleep(draw.uniform(0.0, 1.0) if what == "restart" else 0.0)
        server.start()


# Fifty faults of a real server need their real time, and a plain run of all tests has two minutes; .ci/run sets CI. Single
# faults of each kind are in test_processes, many in virtual time in test_shares.
@pytest.mark.skipif(not MANY, reason="fifty faults in real time take minutes: set CI=1")
def test_random_faults_make_no_request_too_many(valkey: Valkey) -> None:
    """Nothing is rate-limited, nobody is left out, and no call waits for ever."""
    draw = random.Random(7)
    with served(Setting(NETWORK, LIMIT, "sliding")) as server:
        members = [Member(server.url, valkey.address, WORKS[number % 2]) for number in range(4)]
        for member in members:
            member.wait_for("works")
        done = []
        for _ in range(FAULTS):
            hurt(draw, valkey)
            time.sleep(draw.uniform(0.3, 1.5))
            if draw.random() < 0.5:
                members.append(Member(server.url, valkey.address, draw.choice(WORKS)))
                members[-1].wait_for("works")
            elif len(members) > 3:
                done.append(members.pop(draw.randrange(2, len(members))).stop())
        for member in members:
            member.ask_to_stop()
        done += [member.done() for member in members]
    assert (server.seen.rate_limited, busiest(server.seen.stamps) <= LIMIT) == (0, True)
    assert all(one.ended for one in done)
    assert {name for one in done for name in one.errors} <= {"LedgerUnavailable"}
