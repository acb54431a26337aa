from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teak_async.sandbox import LIMITS, Faults, Sandbox
from teak_async.sandbox.faults import DRAWN
from teak_async.sandbox.settings import Settings

shares = st.floats(0, 1 / len(DRAWN))
faults = st.builds(Faults, st.integers(0, 9), **dict.fromkeys(("delay", "jitter", "stall_for"), st.floats(0, 9)), reset=shares)
settings = st.builds(
    Settings, st.sampled_from(["sliding", "fixed"]), st.dictionaries(st.sampled_from([*LIMITS]), st.integers(1)), faults
)


@given(settings)
def test_as_python(given: Settings) -> None:
    """The line of Python, run, makes what it describes."""
    made = eval(given.as_python(), {"Sandbox": Sandbox, "Faults": Faults})  # noqa: S307 - our own line
    assert (made.settings if isinstance(made, Sandbox) else Settings(faults=made)) == given


@pytest.mark.parametrize(
    ("given", "python", "shell"),
    [
        (Settings(), "Faults()", "teak-async sandbox"),
        (
            Settings(faults=Faults(response_lost=0.02, seed=7)),
            "Faults(seed=7, response_lost=0.02)",
            "teak-async sandbox --seed 7 --response-lost 0.02",
        ),
        (
            Settings("fixed", {"identify": 5}),
            "Sandbox(window='fixed', limits={'identify': 5})",
            "teak-async sandbox --window fixed --limit identify=5",
        ),
        (
            Settings(limits={"exclusions": 5}, faults=Faults(delay=0.1)),
            "Sandbox(limits={'exclusions': 5}, faults=Faults(delay=0.1))",
            "teak-async sandbox --limit exclusions=5 --delay 0.1",
        ),
    ],
)
def test_only_what_differs_is_written(given: Settings, python: str, shell: str) -> None:
    """The lines leave out what is as it always is."""
    assert (given.as_python(), given.as_shell()) == (python, shell)
    assert shlex.split(shell)[:2] == ["teak-async", "sandbox"]


def test_changed() -> None:
    """A change leaves all else as it was."""
    before = Settings("fixed", {"identify": 5}, Faults(delay=0.1))
    after = before.changed({"limits": {"exclusions": 7.0}, "faults": {"stall": 1, "seed": 3}})
    assert after == Settings("fixed", {"identify": 5, "exclusions": 7}, Faults(seed=3, delay=0.1, stall=1.0))
    assert before.changed({}) == before
    assert before.changed({"window": "sliding"}).window == "sliding"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"speed": 1}, "speed: settings are window, limits, faults"),
        ({"window": "hopping"}, "window must be one of"),
        ({"limits": {"identity": 5}}, "identity: limits are identify"),
        ({"limits": {"identify": 0}}, "identify must be a number of at least 1"),
        ({"limits": {"identify": 1.5}}, "identify must be a whole number"),
        ({"limits": {"identify": "5"}}, "identify must be a number"),
        ({"faults": {"rest": 0.5}}, "rest: no such fault"),
        ({"faults": {"reset": -0.5}}, "reset must be a number of at least 0"),
        ({"faults": {"delay": float("nan")}}, "delay must be a number"),
        ({"faults": {"delay": True}}, "delay must be a number"),
        ({"faults": {"reset": 0.7, "stall": 0.7}}, "add up to more than 1"),
        ({"faults": {"spike": 2}}, "spike is a share"),
    ],
)
def test_a_wrong_change(given: dict[str, Any], said: str) -> None:
    """What a setting cannot be is said, and nothing changes."""
    with pytest.raises(ValueError, match=said):
        Settings().changed(given)


def test_faults_below_zero() -> None:
    """A share or time below 0 is refused wherever it comes from."""
    with pytest.raises(ValueError, match="delay, stall must be 0 or more"):
        Faults(delay=-1, stall=-0.5)
