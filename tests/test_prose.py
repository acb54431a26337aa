"""What a machine can see of plain prose: words that were given up stay away, and sentences end."""

from __future__ import annotations

import ast
import pydoc
import re
from collections.abc import Iterator
from pathlib import Path

from support import ROOT, each

import teak_async
from teak_async.sandbox import Sandbox

GONE = re.compile(
    r"\b(budgets?|guests?|referee|rehearsal|verdict|whoever|withdraw|cleanse|settle|hundredths"
    r"|rate-limit(?:ed)? answer|(?:call|answer|request)s? refused|refused calls?|of (?:ours|yours))\b",
    re.IGNORECASE,
)
"""The project's old dialect. Each has a plain word: bucket, shared, limit model, dry run, exit code, redact, rate-limited."""
MAX_WORDS = 40
"""Of a sentence. Most have fifteen."""
FILES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks/README.md", *sorted((ROOT / "teak_async").rglob("*.py"))]


def passages(path: Path) -> Iterator[tuple[int, str]]:
    """The paragraphs of a file, each with its line: docstrings of Python, all but code and tables of Markdown."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        nodes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
        docs = [(node.lineno, node.value) for node in nodes if isinstance(node.value, str)]
    else:
        docs = [
            (
                1,
                re.sub(
                    r"^```.*?^```$|^\|.*?$", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE
                ),
            )
        ]
    for first, doc in docs:
        line = first
        for part in re.split(r"(\n\s*(?=\n|- |\w+: |\w+ {2,}))", doc):
            yield line, " ".join(part.split())
            line += part.count("\n")


@each("path", FILES)
def test_words_that_are_gone_stay_gone(path: Path) -> None:
    """In code, comments and messages, too."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    assert [f"{path.name}:{number}: {line.strip()}" for number, line in lines if GONE.search(line)] == []


@each("path", FILES)
def test_sentences_end(path: Path) -> None:
    """A sentence that nobody can say in one breath is two."""
    long = [
        f"{path.name}:{line}: {sentence}"
        for line, passage in passages(path)
        for sentence in re.split(r"(?<=[.:;?!])\s", passage)
        if len(sentence.split()) > MAX_WORDS
    ]
    assert long == []


def test_headings_are_what_a_reader_searches_for() -> None:
    """Nouns, of four words at most, each once."""
    headings = re.findall(r"^## (.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(set(headings)) == len(headings)
    assert all(len(heading.split()) <= 4 for heading in headings)


@each("shown", [Sandbox, *(thing for name in teak_async.__all__ if isinstance(thing := getattr(teak_async, name), type))])
def test_help_shows_no_address_of_memory(shown: type) -> None:
    """A default is shown as what it means."""
    assert " at 0x" not in pydoc.render_doc(shown)
