"""Lines at a descriptor: whole ones, or none."""

from __future__ import annotations

import io
import os
import resource
import signal
import threading
from pathlib import Path

import pytest
from support import WAIT

from teak_async._cli.errors import fit
from teak_async._cli.lines import OffLoopStream, Target, target_of


def test_a_pipe_that_does_not_wait() -> None:
    """Another program made the pipe both have one that does not wait (`O_NONBLOCK`): each line arrives whole all the same."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    line = "x" * 300_000 + "\n"  # more than a pipe holds
    thread = threading.Thread(target=Target(writing).write, args=(line,))
    thread.start()
    with os.fdopen(reading, "rb") as read:
        assert read.read(len(line)).decode() == line
    thread.join(WAIT)
    os.close(writing)


@pytest.mark.parametrize("room", [0, 1, 7])
def test_what_was_cut_off_is_taken_back(tmp_path: Path, room: int) -> None:
    """A file that may not grow further has whole lines, as one on a full disk."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    target = Target(os.open(tmp_path / "lines", os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    try:
        target.write("a whole line\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (len("a whole line\n") + room, most))
        with pytest.raises(OSError, match="File too large"):
            target.write("another one\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
        signal.signal(signal.SIGXFSZ, former)
    assert target.descriptor is not None
    os.close(target.descriptor)
    assert (tmp_path / "lines").read_text() == "a whole line\n"


def test_a_pipe_that_nobody_reads_any_more() -> None:
    """What a pipe has taken cannot be taken back, and the error is that of the pipe."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    target = Target(writing)
    os.write(writing, b"x" * 60_000)
    thread = threading.Timer(0.05, os.close, [reading])
    thread.start()
    with pytest.raises(BrokenPipeError):
        target.write("x" * 100_000)
    os.close(writing)


def test_a_stream_without_a_descriptor() -> None:
    stream = io.StringIO()
    target_of(stream, "ascii").write("naïve\n")
    assert stream.getvalue() == "na\\xefve\n"


def test_a_message_fits_into_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file has it in one line."""
    monkeypatch.setenv("COLUMNS", "30")
    text, terminal = "a message of some words " * 5, io.StringIO()
    assert fit(text, terminal) == text
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    lines = fit(text, terminal).splitlines()
    assert max(map(len, lines)) < 30
    assert " ".join(lines).split() == text.split()


async def test_words() -> None:
    """The stream that stands for standard error says of it what the other one would."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="latin-1") as stream:
        words = OffLoopStream(stream)
        assert (words.encoding, words.fileno(), words.isatty(), words.writable()) == ("latin-1", writing, False, True)
        assert words.write("naïve\n") == 6
        await words.drain([])
    with os.fdopen(reading, encoding="latin-1") as read:
        assert read.read() == "naïve\n"
