"""Which package may import which: one way, from the top layer down."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, each

PACKAGE = ROOT / "teak_async"
LAYERS = [
    "_cli",
    "_session",
    "_parts _bulk",
    "_client",
    "_fleet",
    "_limits _journal",
    "_notify _leaving",
    "_api",
    "models events",
    "errors _values",
]
"""From the top down; a unit imports from layers below its own only. What stands in one line is side by side."""
BESIDE = {
    "_version": set[str](),
    "sandbox": set[str](),
    "otel": {"_api", "_version", "events"},
    "testing": {"_client", "_limits", "_session", "errors", "sandbox"},
}
"""What stands beside the layers, with all that each may import."""
ENTRIES = {"__init__", "__main__"}
"""The two ways in: the public names, and `python -m teak_async`."""
SANDBOX_USERS = {"_cli", "testing"}
"""The sandbox imports nothing of the client, and of the client's units only these import it."""
IN_FUNCTIONS = {
    "_cli/app.py": {"_cli"},
    "testing.py": {"sandbox"},
}
"""Imports made by functions: the command's help has to come at once, and every run of pytest imports the plugin."""
MAX_LINES = 400

PURE = [
    "_values.py",
    "errors.py",
    "events.py",
    "_api/endpoints.py",
    "_api/codec.py",
    "_api/structure.py",
    "_api/refusals.py",
    "_api/credentials.py",
    "_limits/allowance.py",
    "_limits/credit.py",
    "_limits/permits.py",
    "_fleet/ledger.py",
    "_fleet/policy.py",
    "_fleet/share.py",
    "_client/retry.py",
]
IMPURE = {"asyncio", "aiohttp", "time", "random"}

PURE += [f"models/{path.name}" for path in (PACKAGE / "models").glob("[!_]*.py")]
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def imports(tree: ast.AST, package: str, *, functions: bool = True) -> Iterator[str]:
    """Name what a module of a package imports, in full; with or without what its functions import when called."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                for branch in node.orelse:
                    yield from imports(ast.Module([branch], []), package, functions=functions)
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(level=0):
                yield str(node.module)
            case ast.ImportFrom():
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
                yield from ([base] if node.module else (f"{base}.{alias.name}" for alias in node.names))
            case ast.FunctionDef() | ast.AsyncFunctionDef() if not functions:
                pass
            case _:
                yield from imports(node, package, functions=functions)


def imported(module: str, *, functions: bool = True) -> set[str]:
    """What a module of ours imports."""
    package = ".".join(["teak_async", *module.split("/")[:-1]])
    return set(imports(ast.parse((PACKAGE / module).read_text(encoding="utf-8")), package, functions=functions))


def unit_of(module: str) -> str:
    """The unit a module belongs to: its top-level package or itself."""
    return module.split("/", maxsplit=1)[0].removesuffix(".py")


def units(names: set[str]) -> set[str]:
    """The units of ours among some imports."""
    return {name.split(".")[1] for name in names if name.startswith("teak_async.")}


def allowed(unit: str) -> set[str]:
    """What a unit may import."""
    if unit in BESIDE:
        return BESIDE[unit]
    place = next(place for place, layer in enumerate(LAYERS) if unit in layer.split())
    below = {name for layer in LAYERS[place + 1 :] for name in layer.split()}
    return below | {"_version"} | ({"sandbox"} if unit in SANDBOX_USERS else set())


def test_the_reader_of_imports() -> None:
    """The tests below see imports of every form and place, except those for the type checker only."""
    source = """
import asyncio, a.b
from . import errors
from .models import State
from ..up import x
from teak_async._api.codec import encode
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
    tree = ast.parse(source)
    outside = ["asyncio", "a.b", "teak_async.p.errors", "teak_async.p.models", "teak_async.up", "teak_async._api.codec"]
    outside.append("teak_async.p.seen")
    assert list(imports(tree, "teak_async.p")) == [*outside, "teak_async.p.inside", "random"]
    assert list(imports(tree, "teak_async.p", functions=False)) == outside
    assert units({"teak_async.p.errors", "teak_async.up", "teak_asyncs.x", "random"}) == {"p", "up"}


def test_every_unit_has_its_place() -> None:
    """A new package or module must be given its place in the order."""
    placed = {name for layer in LAYERS for name in layer.split()} | BESIDE.keys() | ENTRIES
    assert placed == {unit_of(module) for module in MODULES}


@each("module", [module for module in MODULES if unit_of(module) not in ENTRIES])
def test_imports_run_one_way(module: str) -> None:
    """A module imports only from layers below its own, and from its own package."""
    unit = unit_of(module)
    assert units(imported(module)) - {unit} <= allowed(unit)


@pytest.mark.parametrize("package", sorted({unit_of(module) for module in MODULES if "/" in module}))
def test_no_circle_inside_a_package(package: str) -> None:
    """The modules of a package can be put in an order in which each imports only those before it."""
    prefix = f"teak_async.{package}."
    left = {
        module: {name.removeprefix(prefix).split(".")[0] for name in imported(module) if name.startswith(prefix)}
        for module in MODULES
        if unit_of(module) == package and not module.endswith("__init__.py")
    }
    done: set[str] = set()
    while left:
        free = [module for module, needs in left.items() if needs <= done]
        assert free, f"a circle among {sorted(left)}"
        for module in free:
            done.add(Path(module).stem)
            del left[module]


@each("module", MODULES)
def test_imports_in_functions(module: str) -> None:
    """Functions import nothing of ours, but where a module has to be cheap to import."""
    late = units(imported(module)) - units(imported(module, functions=False))
    assert late <= IN_FUNCTIONS.get(module, set())


@each("module", MODULES)
def test_no_module_is_too_long(module: str) -> None:
    """A module that grows past this has a wall missing."""
    assert len((PACKAGE / module).read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@each("module", PURE)
def test_pure_modules(module: str) -> None:
    """The pure modules cannot do I/O, read a clock or throw dice."""
    assert {name.partition(".")[0] for name in imported(module)} & IMPURE == set()


def loaded_by(module: str) -> set[str]:
    """Name all modules that importing one loads."""
    show = f"import sys, {module}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", show], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_the_package_is_loaded_as_it_is_used() -> None:
    """Importing the package loads nothing else; importing the session loads neither command, sandbox nor plugin."""
    assert {name for name in loaded_by("teak_async") if name.startswith("teak_async.")} == {"teak_async._version"}
    loaded = loaded_by("teak_async._session")
    assert "aiohttp" in loaded
    assert loaded & {"typer", "rich", "pytest", "teak_async.sandbox", "teak_async.testing", "teak_async._cli"} == set()


def test_the_command_shows_its_help_at_once() -> None:
    """The module of options loads neither aiohttp nor anything of ours that does."""
    loaded = loaded_by("teak_async._cli.app")
    assert loaded & {"aiohttp", "attrs", "cattrs", "orjson", "teak_async._session", "teak_async._cli.commands"} == set()


def test_public_names() -> None:
    """What the type checker sees of the package is what one gets."""
    import teak_async  # noqa: PLC0415 - the test is about this import

    (block,) = (node for node in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen | {"__version__"} == set(teak_async.__all__) <= set(dir(teak_async))
    assert all(getattr(teak_async, name) for name in teak_async.__all__)
    assert teak_async.errors.TeakError is teak_async.TeakError
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = teak_async.Nothing


def test_the_plugin_needs_pytest_only() -> None:
    """Importing the pytest plugin, as every run of pytest does, loads no server and no other library for tests."""
    loaded = loaded_by("teak_async.testing")
    assert {"teak_async.testing", "pytest"} <= loaded
    others = {"typer", "rich", "hypothesis", "pytest_asyncio", "anyio", "aioresponses"}
    assert loaded & {*others, "aiohttp.web", "teak_async.sandbox"} == set()
