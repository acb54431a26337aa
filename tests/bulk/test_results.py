"""How a reader gets the outcomes of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from teak_async._bulk.outcomes import Tally
from teak_async._bulk.results import Ended, Results
from teak_async._bulk.row_call import InvalidRow, RunContext, outcome_of
from teak_async._limits.bucket import GRANTS_A_TURN
from teak_async.errors import InvalidRequest, JournalError

ROWS = 5 * GRANTS_A_TURN + 1


def results_of(count: int) -> Results:
    """The results of a run in which so many rows have ended at once, as those of a group in a journal."""
    results = Results(RunContext(None), Tally(), lambda: None)
    for index in range(count):
        row = InvalidRow(index, 0, 0, InvalidRequest("no row"), None)
        results.deliver(row, outcome_of(row, None, row.error))
    return results


async def read(results: Results, tell: Callable[[int], None] = lambda _: None) -> list[int]:
    """Read all, as a run does."""
    found: list[int] = []
    while True:
        ended: Ended | None = results.take()
        if ended is None:
            try:
                ended = await results.next()
            except StopAsyncIteration:
                return found
        found.append(ended[1].index)
        tell(len(found))


async def test_a_reader_takes_few_in_one_turn_and_misses_none() -> None:
    """Whatever ended at once comes in order, some in each turn of the loop, so that other work goes on between them."""
    results, turns = results_of(ROWS), [0]

    async def count_turns() -> None:
        while True:
            turns.append(0)
            await asyncio.sleep(0)

    def note(_: int) -> None:
        turns[-1] += 1

    other = asyncio.create_task(count_turns())
    await asyncio.sleep(0)
    results.end()
    assert await read(results, note) == list(range(ROWS))
    other.cancel()
    assert sum(turns) == ROWS
    assert max(turns) <= GRANTS_A_TURN
    assert results.take() is None


async def test_a_reader_that_is_cancelled_in_such_a_wait_loses_no_row() -> None:
    """The next one who reads gets the rest."""
    results = results_of(ROWS)
    taken = [results.take() for _ in range(GRANTS_A_TURN)]
    assert None not in taken
    assert results.take() is None
    waiting = results.next()
    waiting.send(None)  # to its wait
    with pytest.raises(asyncio.CancelledError):
        waiting.throw(asyncio.CancelledError())
    results.end()
    assert await read(results) == list(range(GRANTS_A_TURN, ROWS))


async def test_a_reader_that_looks_in_now_and_then_gets_on() -> None:
    """One who does not wait has a row at least each second time that it looks, while there are any."""
    results, looked = results_of(ROWS), 0
    found: list[int] = []
    results.end()
    while len(found) < ROWS:
        looked += 1
        ended = results.take()
        if ended is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(0):
                    ended = await results.next()
        if ended is not None:
            found.append(ended[1].index)
        assert looked < 2 * ROWS
    assert found == list(range(ROWS))


async def test_two_readers_share_the_outcomes() -> None:
    """Each row is one of the two's, and both hear of the end."""
    results = results_of(ROWS)
    results.end()
    found = await asyncio.gather(read(results), read(results))
    assert sorted(found[0] + found[1]) == list(range(ROWS))
    assert all(found)


async def test_the_end_comes_after_the_last_outcome_however_many_there_are() -> None:
    """Also where the last ones fill a turn, and with the error that ended the run."""
    for count in range(3 * GRANTS_A_TURN + 1):
        results = results_of(count)
        results.end()
        assert await read(results) == list(range(count))
        lost = results_of(count)
        lost.error = JournalError("the disk is full")
        lost.end()
        with pytest.raises(JournalError, match="the disk is full"):
            await read(lost)
