"""The entry point, also of `python -m teak_async`: it handles signals before it imports what a command needs."""

from __future__ import annotations

import atexit

from .signals import LISTENER


def run() -> None:
    LISTENER.begin()
    atexit.register(LISTENER.ignore)  # registered first, it is called last
    from .app import run as run_app  # noqa: PLC0415 - from here on signals are heard

    run_app()
