"""The entry point, also of `python -m teak_async`. It handles signals before it imports the commands."""

from __future__ import annotations

import atexit

from .signals import LISTENER


def run() -> None:
    LISTENER.begin()
    atexit.register(LISTENER.ignore)  # registered first, it is called last
    from .app import run as run_app  # noqa: PLC0415 - the handlers have to be set first

    run_app()
