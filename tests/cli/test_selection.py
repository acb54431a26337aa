"""Who is among the players of an input already, with most of them on disk."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from teak_async._cli import selection
from teak_async._cli.selection import RepeatCounter, SeenPlayers

PLAYERS = st.lists(st.integers(0, 12).map("p{}".format), max_size=60)


def repeats(players: Sequence[str]) -> list[int]:
    """The places, from 1, of players that stand further up already."""
    return [place for place, player in enumerate(players, 1) if player in players[: place - 1]]


@pytest.mark.parametrize("kept", [1, 3, 100])
@given(players=PLAYERS)
@example(players=["p1", "p2", "p1", "p3", "p2", "p1"])
def test_each_player_once(kept: int, players: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "MAX_WAITING", kept)
        seen = SeenPlayers()
        again = [place for place, player in enumerate(players, 1) if not seen.add(player, place)]
        seen.close()
    assert again == repeats(players)
    assert (seen.repeated, seen.first) == (len(again), again[0] if again else 0)


@pytest.mark.parametrize("kept", [1, 3, 100])
@given(players=PLAYERS)
@example(players=["p1", "p2", "p1", "p3", "p2", "p1"])
@example(players=["p1", "p2", "p3", "p3", "p1", "p1"])
def test_repeats_are_counted(kept: int, players: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "MAX_WAITING", kept)
        counter = RepeatCounter()
        assert all(counter.add(player, place) for place, player in enumerate(players, 1))
        counter.close()
    again = repeats(players)
    assert (counter.repeated, counter.first) == (len(again), again[0] if again else 0)


def test_names_that_are_no_utf_8() -> None:
    seen = SeenPlayers()
    assert [seen.add(player, line) for line, player in enumerate(["\ud800", "\ud801", "\ud800"], 2)] == [True, True, False]
    seen.close()
