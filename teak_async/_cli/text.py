"""Lines of text from a file or standard input, decompressed and decoded.

The content tells compression, encoding and line end; the name of the file does not count. The reader streams: it holds one
line and the buffers of the standard library's readers. It gives `None` for a line that is too long, and drops the text.
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

from .errors import InputError, describe_refusal
from .kinds import find_compression, find_encoding, find_line_end

MAX_LINE = 1 << 20
"""Characters of a line at most. A longer line fails as a row."""
STDIN = 0
"""Descriptor of standard input."""
HEAD = 1 << 16
"""Bytes at most that are searched for the end of the first line."""
MIN_HEAD = 16
"""Bytes that are enough to recognise a compression; a text whose first line ends earlier needs fewer."""
_BUFFER = 1 << 17
_READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
_ENCODING_NAMES = {
    "utf-8-sig": "UTF-8",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32-le": "UTF-32",
    "utf-32-be": "UTF-32",
}


class TextFile:
    """The lines of a file, or of standard input for `-`.

    Attributes:
        compression: `gzip`, `bzip2`, `xz`, `zstd`, or empty.
        encoding: Python's name for it.
        line_end: a line feed, or a carriage return.
        head: the first bytes of the decompressed text. `lines` gives them, too.

    Raises:
        InputError: when the file cannot be opened or read.
    """

    def __init__(self, path: str) -> None:
        self.name = "standard input" if path == "-" else path
        self._path = path
        self.compression = ""
        self._read_errors: tuple[type[Exception], ...] = _READ_ERRORS
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
            except self._read_errors as error:
                raise self._read_error(error, 0) from None
            self.encoding = find_encoding(self.head)
            self.line_end = find_line_end(self.head.decode(self.encoding, errors="replace")) or "\n"
            # Surrogates keep bytes that are not UTF-8, so that a report gives the row back byte by byte.
            errors = "surrogateescape" if self.encoding.startswith("utf-8") else "replace"
            buffered = stack.enter_context(io.BufferedReader(content, _BUFFER))
            self._text = io.TextIOWrapper(buffered, self.encoding, errors, newline=self.line_end)
            stack.callback(self._text.close)
            self._stack = stack.pop_all()

    @property
    def description(self) -> str:
        """Encoding, line end and compression, such as `UTF-16, gzip`."""
        encoding = _ENCODING_NAMES.get(self.encoding, self.encoding.upper())
        parts = [encoding, "lines end with CR" if self.line_end == "\r" else "", self.compression]
        return ", ".join(part for part in parts if part)

    def lines(self) -> Iterator[tuple[int, str | None]]:
        """Give each line with its number, from 1; `None` in place of a line that is too long.

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
        except self._read_errors as error:
            raise self._read_error(error, number) from None

    def is_file(self, path: Path) -> bool:
        """Tell whether a path names the file that this object reads."""
        return os.path.samestat(os.fstat(self._file.fileno()), path.stat())

    def close(self) -> None:
        self._stack.close()

    def _decompress(self, file: io.BufferedReader) -> BinaryIO:
        match self.compression:
            case "gzip":
                return gzip.GzipFile(fileobj=file)  # type: ignore[return-value] # it has all methods that are used
            case "bzip2":
                return bz2.BZ2File(file)  # type: ignore[return-value] # as above
            case "xz":
                return lzma.LZMAFile(file)  # type: ignore[return-value] # as above
            case _:
                zstd = _find_zstd()
                if zstd is None:
                    named = "FILE" if self._path == "-" else self._path
                    remedy = f"pip install 'teak_async[cli]', or: zstd -dc {named} | teak-async COMMAND -"
                    raise InputError(
                        f"{self.name}: this is compressed with Zstandard, and the package that reads it is missing: {remedy}"
                    )
                self._read_errors = (*_READ_ERRORS, zstd.ZstdError)
                opened: BinaryIO = zstd.ZstdFile(file)
                return opened

    def _read_error(self, error: Exception, number: int) -> InputError:
        if not self.compression:
            reason = getattr(error, "strerror", None) or error
        elif isinstance(error, EOFError):
            reason = f"the {self.compression} data end too early; was the file copied whole?"
        else:
            reason = getattr(error, "strerror", None) or f"the {self.compression} data are damaged: {error}"
        return InputError(f"{self.name}: cannot be read after line {number}: {reason}")


class _Prefixed(io.RawIOBase):
    """A stream that gives again the head that was read from it."""

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
                raise BlockingIOError(EAGAIN, "this is a pipe in non-blocking mode (O_NONBLOCK)")
        buffer[: len(data)] = data
        return len(data)


def _open(path: str) -> io.FileIO:
    try:
        # Not `sys.stdin`: a thread that waits in its `read` holds a lock that Python needs at exit.
        return io.FileIO(os.dup(STDIN) if path == "-" else path)
    except OSError as error:
        raise InputError(f"{path}: {describe_refusal(error)}") from None


def _read_head(stream: Any, is_enough: Callable[[bytes], bool]) -> bytes:
    """Read until the content is recognised, and no further, since the next line of a pipe may come in an hour."""
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
        return import_module(name)
    except ModuleNotFoundError:
        return None
