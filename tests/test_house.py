"""The house rules: which module may import which."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path.stem for path in (ROOT / "teak_async").glob("*.py"))

STOREYS = [
    {"__main__"},
    {"cli"},
    {"demo", "report"},
    {"job"},
    {"progress", "rows"},
    {"bulk"},
    {"intents"},
    {"outcomes"},
    {"journal"},
    {"writer"},
    {"store"},
    {"session"},
    {"calls", "backlog"},
    {"attempt", "budgets"},
    {"transport", "bucket"},
    {"wire", "retry", "window", "tells"},
    {"endpoints"},
    {"models", "events"},
    {"errors"},
]
"""From the top down; a module imports from storeys below its own only."""
ANNEXES = {
    "version": set[str](),
    "referee": set[str](),
    "faults": set[str](),
    "sandbox": {"referee", "faults"},
    "testing": {"sandbox", "session", "budgets", "bucket", "transport", "retry", "errors"},
    "otel": {"events", "endpoints", "version"},
}
"""What stands beside the storeys, with all that each may import."""
BRIDGES = {"cli": {"sandbox", "referee"}, "demo": {"sandbox"}}
"""Who may import from the annexes; `version` is everybody's."""
LAZY = {"testing": {"sandbox"}}
"""What a module imports only inside of its functions, because importing it has to be cheap."""
UPWARDS = {("session", "bulk")}
"""The one import against the order, inside of a function."""

PURE = ["models", "errors", "events", "endpoints", "wire", "window", "retry"]
IMPURE = {"asyncio", "aiohttp", "time", "random"}


def imports(tree: ast.AST, *, functions: bool = True) -> Iterator[str]:
    """Name what a module imports, its own package's as `.name`; with or without what its functions import when called."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                for branch in node.orelse:
                    yield from imports(ast.Module([branch], []), functions=functions)
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=None):
                yield from (f".{alias.name}" for alias in node.names)
            case ast.ImportFrom():
                yield f"{'.' * node.level}{node.module}"
            case ast.FunctionDef() | ast.AsyncFunctionDef() if not functions:
                pass
            case _:
                yield from imports(node, functions=functions)


def parsed(module: str) -> ast.Module:
    return ast.parse((ROOT / "teak_async" / f"{module}.py").read_text(encoding="utf-8"))


def ours(names: Iterator[str]) -> set[str]:
    """The package's own modules among some imports."""
    plain = (name.replace("teak_async.", ".") for name in names)
    return {name.removeprefix(".").partition(".")[0] for name in plain if name.startswith((".", "teak_async"))}


def allowed(module: str) -> set[str]:
    """What a module may import of the package."""
    if module in ANNEXES:
        return ANNEXES[module]
    place = next(place for place, storey in enumerate(STOREYS) if module in storey)
    return set[str]().union(*STOREYS[place + 1 :], BRIDGES.get(module, set()), {"version"})


def test_the_reader_of_imports() -> None:
    """The tests below see imports of every form and place, except those for the type checker only."""
    source = """
import asyncio, a.b
from . import errors
from .models import State
from teak_async.wire import encode
if TYPE_CHECKING:
    from .unseen import x
else:
    from .seen import x
def f():
    class C:
        try:
            from .inside import y
        finally:
            import random
"""
    outside = ["asyncio", "a.b", ".errors", ".models", "teak_async.wire", ".seen"]
    assert list(imports(ast.parse(source))) == [*outside, ".inside", "random"]
    assert list(imports(ast.parse(source), functions=False)) == outside
    assert ours(imports(ast.parse(source))) == {"errors", "models", "wire", "seen", "inside"}


def test_every_module_has_its_place() -> None:
    """A new module must be given its place in the order."""
    assert sorted([*set[str]().union(*STOREYS), *ANNEXES, "__init__"]) == MODULES


@pytest.mark.parametrize("module", [module for module in MODULES if module != "__init__"])
def test_imports_run_one_way(module: str) -> None:
    """A module imports only from below, with the few exceptions that are named above."""
    wrong = {(module, name) for name in ours(imports(parsed(module))) - allowed(module)}
    assert wrong <= UPWARDS


@pytest.mark.parametrize(("module", "name"), UPWARDS)
def test_upwards_only_when_called(module: str, name: str) -> None:
    """The import against the order is made inside of a function, never when the module is loaded."""
    assert name in ours(imports(parsed(module)))
    assert name not in ours(imports(parsed(module), functions=False))


@pytest.mark.parametrize(("module", "names"), LAZY.items())
def test_lazy(module: str, names: set[str]) -> None:
    """What is dear to import is imported when it is needed."""
    assert names <= ours(imports(parsed(module)))
    assert not names & ours(imports(parsed(module), functions=False))


@pytest.mark.parametrize("module", PURE)
def test_pure_modules(module: str) -> None:
    """The pure modules cannot do I/O, read a clock or throw dice."""
    assert {name.partition(".")[0] for name in imports(parsed(module))} & IMPURE == set()


def loaded_by(module: str) -> set[str]:
    """Name all modules that importing one loads."""
    show = f"import sys, {module}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", show], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_the_library_needs_no_command_line() -> None:
    """Importing the package loads neither the command line's libraries nor the sandbox nor anything for tests."""
    loaded = loaded_by("teak_async")
    assert {"teak_async.session", "aiohttp"} <= loaded
    assert loaded & {"typer", "rich", "pytest", "teak_async.sandbox", "teak_async.testing", "teak_async.cli"} == set()


def test_the_plugin_needs_pytest_only() -> None:
    """Importing the pytest plugin, as every run of pytest does, loads no server and no other library for tests."""
    loaded = loaded_by("teak_async.testing")
    assert {"teak_async.testing", "pytest"} <= loaded
    others = {"typer", "rich", "hypothesis", "pytest_asyncio", "anyio", "aioresponses"}
    assert loaded & {*others, "aiohttp.web", "teak_async.sandbox"} == set()
