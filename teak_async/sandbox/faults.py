"""What goes wrong at the sandbox, and how slow its network is: drawn from a seed, so that a run can be repeated."""

from __future__ import annotations

from functools import cached_property
from random import Random
from typing import Literal

from attrs import fields, frozen

Fault = Literal["reset", "response_lost", "error_before", "error_after", "stall", "not_json", "rate_limited"]
DRAWN: tuple[Fault, ...] = ("reset", "response_lost", "error_before", "error_after", "stall", "not_json")
"""The faults that have a share; the others are only for `fail_next`."""
UNCOUNTED: tuple[Fault | None, ...] = ("reset", "error_before", "rate_limited")
"""The faults that keep a request from being counted against the limit."""


@frozen
class Faults:
    """What goes wrong, as shares of the requests from 0 to 1, and how slow the network is.

    Attributes:
        seed: for everything random here.
        delay: seconds each way.
        jitter: seconds; each way takes up to this much longer, evenly spread.
        reset: the connection is reset before the work.
        response_lost: the work is done, then the connection is closed.
        error_before: a 500 before the work.
        error_after: the work is done, then a 502.
        stall: the work is done, and the response comes `stall_for` seconds late.
        not_json: the work is done, and the response is a web page with the status of success.
        stall_for: seconds.
        spike: share of the requests, and of the responses, that take `spike_for` seconds longer.
        spike_for: seconds.
    """

    seed: int = 0
    delay: float = 0.0
    jitter: float = 0.0
    reset: float = 0.0
    response_lost: float = 0.0
    error_before: float = 0.0
    error_after: float = 0.0
    stall: float = 0.0
    not_json: float = 0.0
    stall_for: float = 5.0
    spike: float = 0.0
    spike_for: float = 0.3

    def __attrs_post_init__(self) -> None:
        if wrong := [one.name for one in fields(Faults) if one.name != "seed" and not getattr(self, one.name) >= 0]:
            raise ValueError(f"{', '.join(wrong)} must be 0 or more")
        if self._share > 1:
            raise ValueError("the shares of the faults add up to more than 1")
        if self.spike > 1:
            raise ValueError("spike is a share, of at most 1")

    @cached_property
    def _share(self) -> float:
        """Of the requests, the share that goes wrong."""
        share: float = sum(getattr(self, name) for name in DRAWN)
        return share

    def draw(self, random: Random) -> Fault | None:
        """Draw what goes wrong with one request."""
        point = random.random()
        if point >= self._share:
            return None
        for name in DRAWN:
            point -= getattr(self, name)
            if point < 0:
                return name
        return None

    def one_way(self, random: Random) -> float:
        """Draw the seconds that one request or response takes."""
        seconds = self.delay
        if self.jitter:
            seconds += self.jitter * random.random()
        if self.spike and random.random() < self.spike:
            seconds += self.spike_for
        return seconds
