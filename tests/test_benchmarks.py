"""The benchmarks run: each topic, made small, and each client. The tests do not look at what they measure."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from support import MANY

from benchmarks import plot, processes, report
from benchmarks.__main__ import TOPICS, main
from benchmarks.limit_models import LIMIT_MODELS
from benchmarks.limits import DRAWN, rate_limited_shares, share
from benchmarks.members import Work
from benchmarks.peers import CLIENTS
from benchmarks.processes import Setting, alone, served
from benchmarks.real import SCENES
from teak_async.sandbox import IDENTIFY, Sandbox

SMALL: dict[str, dict[str, Any]] = {
    "limits": {"--calls": 12},
    "virtual": {"--calls": 400},
    "routes": {"SECONDS": 0.01},
    "foreign": {"COMES": 0.1, "STAYS": (0.2, 0.4), "RAMP": 0.4, "TURN": 0.1, "LEFT_ALONE": 0.1, "TOGETHER": 0.3},
    "waits": {"SECONDS": 0.2, "WARM": 0.2, "BURSTS": 1, "BETWEEN": 0.3},
    "real": {"PART": 0.01, "BURSTS": 1, "FULL": 20, "SCENES": SCENES[::5]},
    "lanes": {"--calls": 60, "LIVE": 100.0},
    "burst": {"--calls": 10, "AT_ONCE": 10},
    "stall": {"--calls": 60, "LIVE": 100.0, "STALL": 0.05},
    "cpu": {"--calls": 12, "WARM": 4, "AT_ONCE": 2},
    "tells": {"--calls": 6, "WARM": 2},
    "page": {"--calls": 6, "WARM": 2, "PARTS": 2},
    "scale": {"--calls": 40, "GRANTS": 60, "IMPORTS": {"import json": ("", "import json")}},
    "journal": {"--calls": 12},
    "shares": {"SECONDS": 0.5, "WARM_UP": 4.0, "SCENARIOS": {"2, and live": (2, 1, 20.0, 0)}},
    "fleet": {"SECONDS": 0.5, "WARM_UP": 1.5, "SCENARIOS": {"2, and live": [Work(bulk=True), Work(live=20)]}},
    "kill": {"--times": 0},
}
"""What makes each topic small: options of the command, and what its module is to have instead of its own."""
SLOW = ("fleet", "journal", "kill")
"""Those that start processes; tried in CI."""


class InThread(threading.Thread):
    """Stands in for a process, which takes most of a second to start; its pipe is its own as a process's is."""

    def __init__(self, target: Any, args: tuple[Any, ...], *, daemon: bool) -> None:
        own = [Connection(os.dup(arg.fileno())) if isinstance(arg, Connection) else arg for arg in args]
        super().__init__(target=target, args=own, daemon=daemon)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = SimpleNamespace(Process=InThread, Pipe=multiprocessing.Pipe)
    monkeypatch.setattr(processes, "multiprocessing", SimpleNamespace(get_context=lambda _: threads))
    yield
    gc.unfreeze()  # what a process may keep from its collector
    assert not [thread for thread in threading.enumerate() if isinstance(thread, InThread)]


def test_every_topic_is_tried() -> None:
    """A new topic must be given a small form."""
    assert SMALL.keys() == TOPICS.keys()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("topic", [topic for topic in SMALL if MANY or topic not in SLOW])
def test_topics(topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each topic prints its tables and writes its figures."""
    module = import_module(f"benchmarks.{topic}")
    options = {"--rounds": 1, "--json": tmp_path / "all.json", "--plot": tmp_path}
    for name, value in SMALL[topic].items():
        if name.startswith("--"):
            options[name] = value
        else:
            monkeypatch.setattr(module, name, value)
    if hasattr(module, "NETWORKS"):
        name = DRAWN if topic == "limits" else "0 ms"
        monkeypatch.setattr(module, "NETWORKS", {name: module.NETWORKS[name]})
    main([topic, *(str(part) for option in options.items() for part in option)])
    printed = capsys.readouterr().out
    assert f"\n## {topic}: " in printed
    assert "| --- |" in printed
    written = json.loads((tmp_path / "all.json").read_text())
    assert written["topics"][topic].keys() > {"title"}
    assert written["versions"]["aiohttp"]
    assert (tmp_path / "rate.svg").exists() is (topic == "limits")


@pytest.mark.parametrize("name", CLIENTS)
async def test_clients(name: str) -> None:
    """Each client makes all of its calls, where its package is installed."""
    pytest.importorskip(CLIENTS[name].package)
    async with Sandbox() as server:
        await CLIENTS[name].run(server.url, 5)
    assert (server.seen[IDENTIFY].requests, len(server.players)) == (5, 5)


def test_processes() -> None:
    """A sandbox and a function run in processes of their own, and what they say comes back."""
    with served(Setting(freeze=0.01, freeze_every=0.01)) as server:
        assert alone(os.getpid) != os.getpid()
    assert server.seen == processes.Seen(0, 0, 0.0, [])


def test_rate_limited_shares() -> None:
    """Each model rate-limits half of twice the limit at once; they differ when the other half comes later in the second."""
    shares = rate_limited_shares([0.0] * 20, 10)
    assert shares == dict.fromkeys(LIMIT_MODELS, 0.5)
    later = rate_limited_shares([0.0] * 10 + [0.55] * 10, 10)
    assert (later["sliding"], later["gcra"], later["bucket"]) == (0.5, 0.25, 0.25)
    # A fixed second begins between the two with half of the beginnings.
    assert later["fixed"] == pytest.approx(0.25)


def test_a_share_of_nothing_is_told_from_a_small_one() -> None:
    """What is printed as 0 is none at all."""
    assert [share(value) for value in (0.0, 0.0001, 0.012)] == ["0", "< 0.1%", "1.2%"]


def test_spread() -> None:
    """Of several rounds the median is printed with the least and the most; of one, itself."""
    assert report.spread([3.0, 1.0, 2.0]) == "2.00 (1.00 to 3.00)"
    assert report.spread([1.0], "{:.1f}") == "1.0"


def test_the_drawing_has_all_lines() -> None:
    """The drawing is well-formed, and has a line and a name for each client, and the limit."""
    text = plot.rates({"ours & theirs": [0.0, 0.5, 1.2], "other": [0.0, 0.0, 0.1]}, 200, "Two <clients>")
    drawn = ET.fromstring(text)  # noqa: S314 - our own
    space = {"svg": "http://www.w3.org/2000/svg"}
    assert len(drawn.findall("svg:polyline", space)) == 2
    said = {element.text for element in drawn.findall("svg:text", space)}
    assert {"ours & theirs", "other", "limit 200", "Two <clients>"} <= said
