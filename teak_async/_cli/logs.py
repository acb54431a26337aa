"""Writes the library's events for people (`--verbose`) and for programs (`--log-file`, JSON Lines)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from queue import SimpleQueue

from teak_async._notify import LOG


class _JsonLines(logging.Formatter):
    """Formats a record as a JSON object: time, level, message, and the fields of its event."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {name.removeprefix("teak_"): value for name, value in vars(record).items() if name.startswith("teak_")}
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": when, "level": record.levelname, "message": record.getMessage(), **fields}
        return json.dumps(line, default=str, ensure_ascii=False)


class _Words(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())


@contextmanager
def log_events(log_file: Path | None, say: Callable[[str], None] | None) -> Iterator[None]:
    """Write the library's events while the context is open.

    Args:
        log_file: the file to which every event is added. Default: none.
        say: shows a line to the user, for each event of level INFO and above. Default: none.

    Raises:
        OSError: when the file cannot be written.
    """
    handlers: list[logging.Handler] = [] if say is None else [_Words(say)]
    listener = None
    if log_file is not None:
        file = logging.FileHandler(log_file, encoding="utf-8")
        file.setFormatter(_JsonLines())
        queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
        handlers.append(QueueHandler(queue))
        listener = QueueListener(queue, file)  # its thread writes, so that a slow disk does not block the event loop
        listener.start()
    before = LOG.level
    if handlers:
        LOG.setLevel(logging.INFO if log_file is None else logging.DEBUG)
    for handler in handlers:
        LOG.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            LOG.removeHandler(handler)
        LOG.setLevel(before)
        if listener is not None:
            listener.stop()
            for handler in listener.handlers:
                handler.close()
