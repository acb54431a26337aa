"""What can be changed at a running sandbox, as one value: how it counts, its limits, and its faults."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from shlex import join
from typing import Any

from attrs import evolve, field, fields, frozen

from .endpoints import LIMITS
from .faults import Faults
from .limit_models import LIMIT_MODELS

WINDOW = "sliding"


def _complete(limits: Mapping[str, int]) -> Mapping[str, int]:
    return {**LIMITS, **limits}


@frozen
class Settings:
    """The settings of a sandbox.

    Attributes:
        window: the limit model, a name of `LIMIT_MODELS`.
        limits: requests per second, by the names of `LIMITS`; those that are left out are Teak's.
        faults: what goes wrong, and how slow the network is.
    """

    window: str = field(default=WINDOW, converter=str)
    limits: Mapping[str, int] = field(default=LIMITS, converter=_complete)
    faults: Faults = field(factory=Faults)

    def __attrs_post_init__(self) -> None:
        if self.window not in LIMIT_MODELS:
            raise ValueError(f"window must be one of {', '.join(LIMIT_MODELS)}, not {self.window!r}")
        if unknown := set(self.limits) - set(LIMITS):
            raise ValueError(f"{', '.join(sorted(unknown))}: limits are {', '.join(LIMITS)}")

    def changed(self, given: Mapping[str, Any]) -> Settings:
        """Return these settings with some changed, as JSON names them: `window`, and values in `limits` and `faults`.

        Raises:
            ValueError: when one is unknown, or has a value that it cannot have.
        """
        if unknown := set(given) - {"window", "limits", "faults"}:
            raise ValueError(f"{', '.join(sorted(unknown))}: settings are window, limits, faults")
        limits = {name: _read_number(name, limit, least=1, whole=True) for name, limit in dict(given.get("limits", {})).items()}
        faults = dict(given.get("faults", {}))
        if unknown := set(faults) - {one.name for one in fields(Faults)}:
            raise ValueError(f"{', '.join(sorted(unknown))}: no such fault")
        return evolve(
            self,
            window=given.get("window", self.window),
            limits={**self.limits, **limits},
            faults=evolve(
                self.faults, **{name: _read_number(name, value, whole=name == "seed") for name, value in faults.items()}
            ),
        )

    def as_python(self) -> str:
        """Write what differs from the defaults as a call: `Faults(…)`, or `Sandbox(…)` where it is not only faults."""
        faults = f"Faults({', '.join(f'{name}={value!r}' for name, value in self._faults().items())})"
        others = [f"window={self.window!r}"] if self.window != WINDOW else []
        others += [f"limits={limits!r}"] if (limits := self._limits()) else []
        if not others:
            return faults
        return f"Sandbox({', '.join([*others, *([f'faults={faults}'] if self._faults() else [])])})"

    def as_shell(self) -> str:
        """Write the same as a command."""
        words = ["teak-async", "sandbox"]
        words += ["--window", self.window] if self.window != WINDOW else []
        for name, limit in self._limits().items():
            words += ["--limit", f"{name}={limit}"]
        for name, value in self._faults().items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        return join(words)

    def _limits(self) -> dict[str, int]:
        return {name: limit for name, limit in self.limits.items() if limit != LIMITS[name]}

    def _faults(self) -> dict[str, Any]:
        given = {one.name: (getattr(self.faults, one.name), one.default) for one in fields(Faults)}
        return {name: value for name, (value, default) in given.items() if value != default}


def _read_number(name: str, value: Any, *, least: float = 0, whole: bool = False) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < least:
        raise ValueError(f"{name} must be a number of at least {least}")
    if whole and value != int(value):
        raise ValueError(f"{name} must be a whole number")
    return int(value) if whole else float(value)
