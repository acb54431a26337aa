"""Checks of a file before it is written."""

from __future__ import annotations

import os
from itertools import chain, count
from pathlib import Path


def same_file(path: Path, other: Path) -> bool:
    """Tell whether two paths name one file, which need not exist yet."""
    if path.exists() and other.exists():
        return path.samefile(other)
    return os.path.realpath(path) == os.path.realpath(other)


def free_name(name: str) -> str:
    """Return a file's name, with a number where there is such a file already, to be proposed for a new one."""
    path = Path(name)
    others = (f"{path.stem}{number}{path.suffix}" for number in count(2))
    return next(found for found in chain([name], others) if not Path(found).exists())


def is_database(path: Path) -> bool:
    """Tell whether a file is a SQLite database, as each journal is."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"
