"""Breaks lines at blanks, for a terminal. Pure."""

from __future__ import annotations

import re
import textwrap

COMMAND = "    "
"""The indent of a command to copy, which stands on a line of its own."""
_KEPT = re.compile(rf"{COMMAND}teak-async |[ ▁-█]+$")
_LEAD = re.compile(r" +(?:[\d,]+ )?")


def wrap(text: str, width: int) -> str:
    """Break longer lines at blanks, with a hanging indent. A command to copy, or a plot, is not broken."""
    return "\n".join(line if len(line) <= width else _wrap_line(line, width) for line in text.split("\n"))


def _wrap_line(line: str, width: int) -> str:
    if _KEPT.match(line):
        return line
    lead = _LEAD.match(line)  # with the number of a reason
    indent = min(2 + (0 if lead is None else lead.end()), width // 2)
    return textwrap.fill(
        line,
        width,
        subsequent_indent=" " * indent,
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
