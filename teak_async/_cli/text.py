"""A file or standard input as lines of text, whatever it is compressed and encoded in.

What it is follows from its content. Everything is streamed: no more is held than one line and the buffers of the standard
library's readers. A line that is too long is given as `None`, and no more of it is kept.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from errno import EAGAIN
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from .errors import InputError
from .kinds import find_compression, find_encoding, find_line_end

MAX_LINE = 1 << 20
"""Characters of a line at most; a longer one is a failed row."""
STDIN = 0
"""The descriptor of standard input."""
HEAD = 1 << 16
"""Bytes at most in which the first line is looked for."""
MIN_HEAD = 16
"""Bytes that tell what a file is, where no line ends before."""
_BUFFER = 1 << 17
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)
_SHOWN = {"utf-8-sig": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "utf-32-le": "UTF-32", "utf-32-be": "UTF-32"}


class TextFile:
    """The lines of a file, or of standard input for `-`.

    Attributes:
        compression: `gzip`, `bzip2`, `xz`, `zstd`, or empty.
        encoding: as Python names it.
        line_end: a line feed, or a carriage return.
        head: the first bytes of the text, which are read again with the lines.

    Raises:
        InputError: when it cannot be opened or read.
    """

    def __init__(self, path: str) -> None:
        self.name = "standard input" if path == "-" else path
        self._path = path
        self.compression = ""
        self._damage: tuple[type[Exception], ...] = _DAMAGED
        with ExitStack() as stack:
            self._file = stack.enter_context(_open(path))
            try:
                head = _read_head(self._file, _tells_compression)
                self.compression = find_compression(head)
                content: Any = _Prefixed(head, self._file)
                if self.compression:
                    content = stack.enter_context(self._decompress(io.BufferedReader(content, _BUFFER)))
                    self.head = _read_head(content, _tells_line_end)
                    content = _Prefixed(self.head, content)
                else:
                    self.head = _read_head(content, _tells_line_end)
                    content = _Prefixed(self.head, self._file)
            except self._damage as error:
                raise self._unreadable(error, 0) from None
            self.encoding = find_encoding(self.head)
            self.line_end = find_line_end(self.head.decode(self.encoding, errors="replace")) or "\n"
            # Bytes that are no UTF-8 come back as they were, so that a row is kept as it stands in the file.
            errors = "surrogateescape" if self.encoding.startswith("utf-8") else "replace"
            buffered = stack.enter_context(io.BufferedReader(content, _BUFFER))
            self._text = io.TextIOWrapper(buffered, self.encoding, errors, newline=self.line_end)
            stack.callback(self._text.close)
            self._stack = stack.pop_all()

    @property
    def description(self) -> str:
        """How the text is kept, as `UTF-16, gzip`."""
        encoding = _SHOWN.get(self.encoding, self.encoding.upper())
        parts = [encoding, "lines end with CR" if self.line_end == "\r" else "", self.compression]
        return ", ".join(part for part in parts if part)

    def lines(self) -> Iterator[tuple[int, str | None]]:
        """Give the lines with their numbers, from 1; `None` for one that is too long.

        Raises:
            InputError: when the file cannot be read any further.
        """
        number = 0
        readline, end, most = self._text.readline, self.line_end, MAX_LINE
        try:
            while data := readline(most + 1):
                number += 1
                if len(data) > most and not data.endswith(end):
                    while (rest := readline(most)) and not rest.endswith(end):
                        pass
                    yield number, None
                else:
                    yield number, data.removeprefix("\ufeff") if number == 1 else data
        except self._damage as error:
            raise self._unreadable(error, number) from None

    def is_file(self, path: Path) -> bool:
        """Tell whether the text is read from this very file."""
        return os.path.samestat(os.fstat(self._file.fileno()), path.stat())

    def close(self) -> None:
        self._stack.close()

    def _decompress(self, file: io.BufferedReader) -> BinaryIO:
        match self.compression:
            case "gzip":
                return gzip.GzipFile(fileobj=file)  # type: ignore[return-value] # it has what is used of one
            case "bzip2":
                return bz2.BZ2File(file)  # type: ignore[return-value] # as above
            case "xz":
                return lzma.LZMAFile(file)  # type: ignore[return-value] # as above
            case _:
                zstd = _find_zstd()
                if zstd is None:
                    named = "FILE" if self._path == "-" else self._path
                    remedy = f"pip install 'teak_async[cli]', or: zstd -dc {named} | teak-async COMMAND -"
                    raise InputError(f"{self.name}: this is compressed with Zstandard, of which a package is missing: {remedy}")
                self._damage = (*_DAMAGED, zstd.ZstdError)
                opened: BinaryIO = zstd.ZstdFile(file)
                return opened

    def _unreadable(self, error: Exception, number: int) -> InputError:
        if not self.compression:
            reason = getattr(error, "strerror", None) or error
        elif isinstance(error, EOFError):
            reason = f"the {self.compression} data end too early; was the file copied whole?"
        else:
            reason = getattr(error, "strerror", None) or f"the {self.compression} data are damaged: {error}"
        return InputError(f"{self.name}: cannot be read after line {number}: {reason}")


class _Prefixed(io.RawIOBase):
    """A stream, with what was read of it already before it."""

    def __init__(self, head: bytes, stream: Any) -> None:
        self._head = memoryview(head)
        self._read: Callable[[int], bytes | None] = getattr(stream, "read1", stream.read)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            part, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
            data: Any = part
        else:
            data = self._read(len(buffer))
            if data is None:
                raise BlockingIOError(EAGAIN, "this is a pipe that does not wait for its data (O_NONBLOCK)")
        buffer[: len(data)] = data
        return len(data)


def _open(path: str) -> io.FileIO:
    try:
        # A reader of its own, also for standard input: a read in the thread holds the lock that Python takes at exit.
        return io.FileIO(os.dup(STDIN) if path == "-" else path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def _read_head(stream: Any, is_enough: Callable[[bytes], bool]) -> bytes:
    """Read until the content is recognised, and no further.

    A pipe may bring the next line in an hour.
    """
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    head = b""
    while len(head) < HEAD and not is_enough(head) and (more := read(HEAD - len(head))):
        head += more
    return head


def _tells_compression(head: bytes) -> bool:
    return len(head) >= MIN_HEAD or (b"\n" in head and not head.startswith(b"\x1f"))


def _tells_line_end(head: bytes) -> bool:
    return bool(find_line_end(head.decode(find_encoding(head), errors="replace")))


def _find_zstd() -> Any:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    try:
        return import_module(name)  # only where it is used
    except ModuleNotFoundError:
        return None
