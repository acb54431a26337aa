"""The page in a real browser: Chromium, driven by Playwright. Where one of them is missing these tests are skipped."""

from __future__ import annotations

import asyncio
import json
import shutil
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from support import MANY, WAIT
from yarl import URL

from teak_async.sandbox import IDENTIFY, Faults, Sandbox
from teak_async.sandbox.view import View

playwright = pytest.importorskip("playwright.async_api", reason="the page is not tried in a browser: no group `rare` here")
CHROMIUM = shutil.which("chromium")
# Chromium is the system's, so no group can bring it; .ci/run installs it. Other tests read the page without a browser.
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the page is not tried in a browser: no chromium here")

NASTY = '<img src=x onerror="document.title=1">'
expect: Any = playwright.expect
REBOUND = "rebound.example"


@asynccontextmanager
async def opened() -> AsyncIterator[Any]:
    """A tab of a browser that takes another name for this machine, too."""
    async with playwright.async_playwright() as driver:
        arguments = ["--no-sandbox", f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"]
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = await browser.new_page()
        page.set_default_timeout(WAIT * 1000)
        yield page
        await browser.close()


@pytest.fixture
async def tab() -> AsyncIterator[Any]:
    """A tab whose script makes no mistake and breaks no rule of the page."""
    mistakes: list[str] = []
    expect.set_options(timeout=WAIT * 1000)
    async with opened() as page:
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.on("console", lambda line: mistakes.append(line.text) if "Content Security Policy" in line.text else None)
        yield page
    assert mistakes == []


async def call(server: Sandbox, user_id: str, **parameters: Any) -> int | None:
    """Make a call as any client does, and return the status of its answer, or nothing where there is none."""
    body = {"game_id": server.game_id, "secret_key": server.secret_key, "user_id": user_id, "country_code": "US", **parameters}
    async with aiohttp.ClientSession() as http:
        try:
            async with http.post(server.url + IDENTIFY, json=body) as response:
                return response.status
        except aiohttp.ClientError:
            return None


def rows(tab: Any) -> Any:
    """The latest requests."""
    return tab.locator("#rows summary")


async def test_calls_appear(tab: Any, sandbox: Sandbox) -> None:
    """A call shows up with its answer, counts and player, and opens to what was sent; the secret is nowhere."""
    await tab.goto(sandbox.url)
    await expect(tab.locator("#empty")).to_be_visible()
    await call(sandbox, "early", email="early@example.com", deep_link="teak:///{{secret_key}}")
    await expect(rows(tab)).to_have_count(1)
    await expect(rows(tab)).to_contain_text(f"POST {IDENTIFY}")
    await expect(rows(tab)).to_contain_text("early")
    await expect(rows(tab)).to_contain_text("201 done")
    await expect(tab.locator(".plot h3")).to_have_text(IDENTIFY)
    await expect(tab.locator(".plot")).to_contain_text("1 in the last minute")
    await expect(tab.locator("#players tbody")).to_contain_text("early@example.com")
    await rows(tab).click()
    await expect(tab.locator("#rows pre").first).to_contain_text('"user_id": "early"')
    await expect(tab.locator("#rows pre").last).to_contain_text('"session_id": "1"')
    assert sandbox.secret_key not in await tab.content()
    # What is read stands still; what comes meanwhile comes afterwards.
    await call(sandbox, "late")
    await expect(tab.locator("#pause")).to_have_text("Resume, 1 new")
    await tab.locator("#pause").click()
    await expect(rows(tab)).to_have_count(2)
    await expect(rows(tab).first).to_contain_text("late")


async def test_the_next_call_fails_by_a_click(tab: Any, sandbox: Sandbox) -> None:
    """A fault that is clicked hits the next call, which shows up among those that went wrong."""
    await tab.goto(sandbox.url)
    await tab.get_by_role("button", name="Fail the next call by response_lost").click()
    await expect(tab.locator("#said")).to_have_text("The next identify: response_lost.")
    await expect(tab.locator("#call")).to_contain_text("identify: response_lost")
    assert [await call(sandbox, "unlucky"), await call(sandbox, "lucky")] == [None, 201]
    await tab.get_by_text("Went wrong").click()
    await expect(rows(tab)).to_have_count(1)
    await expect(rows(tab)).to_contain_text("unlucky")
    await expect(rows(tab)).to_contain_text("no answer, done")


async def test_settings(tab: Any, sandbox: Sandbox) -> None:
    """Shares, times, limits and the window are at work at once, and stand in the lines to copy, until they are reset."""
    await tab.goto(sandbox.url)
    await tab.locator("#faults-error_before").fill("1")
    await tab.keyboard.press("Enter")
    await tab.locator("#limits-exclusions").fill("7")
    await tab.keyboard.press("Enter")
    await tab.get_by_text("Fixed window").click()
    python = "Sandbox(window='fixed', limits={'exclusions': 7}, faults=Faults(error_before=1.0))"
    await expect(tab.locator("#python")).to_have_text(python)
    await expect(tab.locator("#shell")).to_have_text(
        "teak-async sandbox --window fixed --limit exclusions=7 --error-before 1.0"
    )
    assert await call(sandbox, "p") == 500
    await tab.locator("#faults-stall").fill("1")
    await tab.keyboard.press("Enter")
    await expect(tab.locator("#said")).to_contain_text("add up to more than 1")
    assert sandbox.settings.faults == Faults(error_before=1)
    await tab.get_by_role("button", name="Reset all").click()
    await expect(tab.locator("#python")).to_have_text("Faults()")
    assert await call(sandbox, "p") == 201


async def test_another_reader_sees_settings(tab: Any, sandbox: Sandbox) -> None:
    """What a program sets shows up, too."""
    await tab.goto(sandbox.url)
    sandbox.set_faults(Faults(delay=0.5))
    await expect(tab.get_by_label("Delay each way")).to_have_value("0.5")


async def test_what_clients_send_is_text(tab: Any, sandbox: Sandbox) -> None:
    """A player, an address, a path or an answer made of HTML is shown as it was sent, and nothing of it runs."""
    await tab.goto(sandbox.url)
    await call(sandbox, NASTY, email=NASTY, deep_link=f"teak:///{NASTY}", **{NASTY: NASTY})
    async with aiohttp.ClientSession() as http, http.get(f"{sandbox.url}/v3/{NASTY}") as response:
        assert response.status == 404
    sandbox.add_player("p", categories={NASTY: "opt_out"})
    await expect(rows(tab)).to_have_count(2)
    for row in range(2):
        await rows(tab).nth(row).click()
    await expect(rows(tab).last).to_contain_text(NASTY)
    await expect(tab.locator("#rows pre").nth(2)).to_contain_text(json.dumps(NASTY))
    await expect(tab.locator("#players tbody")).to_contain_text(f"desktop_push/{NASTY}")
    await tab.locator("#find").fill(NASTY)
    await expect(tab.locator("#players tbody tr")).to_have_count(1)
    assert await tab.locator("img").count() == 0
    assert await tab.title() == "Teak sandbox"


async def test_find(tab: Any, sandbox: Sandbox) -> None:
    """A search finds a player who is none of the latest."""
    for number in range(200):
        sandbox.add_player(f"p{number}")
    await tab.goto(sandbox.url)
    await expect(tab.locator("#players tbody tr")).to_have_count(50)
    await tab.locator("#find").fill("p3")
    await expect(tab.locator("#players tbody tr")).to_have_count(11)
    await expect(tab.locator("#players tbody tr").first).to_contain_text("p3")
    await tab.locator("#find").fill("nobody")
    await expect(tab.locator("#players tbody")).to_contain_text("No player has these letters")


ATTACK = """async (url) => {
  const given = JSON.stringify({fail_next: ["identify", "reset"], settings: {faults: {reset: 1}}});
  for (const [kind, mode] of [["application/json", "cors"], ["text/plain", "no-cors"], ["application/json", "no-cors"]]) {
    const options = {method: "POST", body: given, headers: {"Content-Type": kind}, mode};
    await fetch(url + "/sandbox/controls", options).catch(() => {});
  }
  const form = document.createElement("form");
  Object.assign(form, {method: "POST", action: url + "/sandbox/controls", enctype: "text/plain", target: "sink"});
  const sink = document.createElement("iframe");
  sink.name = "sink";
  const loaded = new Promise((resolve) => { sink.onload = resolve; });
  document.body.append(sink, form);
  form.submit();
  await loaded;
  const read = await fetch(url + "/").then((response) => response.text(), () => "");
  const heard = await new Promise((resolve) => {
    const events = new EventSource(url + "/sandbox/events");
    events.onmessage = () => resolve("heard");
    events.onerror = () => resolve("");
  });
  return read + heard;
}"""


async def test_another_origin(sandbox: Sandbox) -> None:
    """A page of another origin, a program at this machine's other port, changes nothing and reads nothing."""

    async def serve(_: web.BaseRequest) -> web.Response:
        return web.Response(text="<!doctype html><body></body>", content_type="text/html")

    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with asyncio.timeout(WAIT), opened() as tab:
        await tab.goto(f"http://127.0.0.1:{runner.addresses[0][1]}")
        assert await tab.evaluate(ATTACK, sandbox.url) == ""
    await runner.cleanup()
    assert (sandbox.pending(), sandbox.settings.faults) == ({}, Faults())


async def test_a_name_that_was_turned_here(tab: Any, sandbox: Sandbox) -> None:
    """Under another host name, as after a DNS rebinding, there is no page, and its own origin changes and reads nothing."""
    url = str(URL(sandbox.url).with_host(REBOUND))
    answer = await tab.goto(url)
    assert (answer.status, "localhost" in await answer.text()) == (403, True)
    asked = """async (url) => {
      const body = '{"fail_next": ["identify", "reset"]}', headers = {"Content-Type": "application/json"};
      const options = {method: "POST", headers, body};
      const statuses = [await fetch(url + "/sandbox/controls", options), await fetch(url + "/sandbox/events")];
      return statuses.map((response) => response.status);
    }"""
    await tab.goto(f"{url}/v0")  # no such call: an answer without the page's policy, so that it may ask anything
    assert await tab.evaluate(asked, url) == [403, 403]
    assert sandbox.pending() == {}


async def test_it_reconnects(tab: Any) -> None:
    """After the sandbox was started again the page shows the new one, with nothing of the old."""
    async with Sandbox() as server:
        await tab.goto(server.url)
        await call(server, "old")
        await expect(rows(tab)).to_contain_text("old")
        await tab.mouse.move(0, 0)
    await expect(tab.locator("#link")).to_have_text("Reconnecting")
    async with Sandbox(port=int(str(URL(server.url).port)), faults=Faults(delay=0.001)) as server:
        await expect(tab.locator("#link")).to_have_text("Live")
        await call(server, "new")
        await expect(rows(tab)).to_have_count(1)
        await expect(rows(tab)).to_contain_text("new")
        await expect(tab.locator("#python")).to_have_text("Faults(delay=0.001)")


async def test_a_hidden_tab_asks_for_nothing(tab: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The events end when the tab is hidden, and go on when it is seen again."""
    readers: weakref.WeakSet[View] = weakref.WeakSet()

    class Watched(View):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            readers.add(self)

    monkeypatch.setattr("teak_async.sandbox.page.View", Watched)
    await tab.goto(sandbox.url)
    await expect(tab.locator("#link")).to_have_text("Live")
    assert len(readers) == 1
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    await tab.evaluate(hide, True)
    async with asyncio.timeout(WAIT):
        while readers:
            await asyncio.sleep(0.01)
    await call(sandbox, "unseen")
    await expect(rows(tab)).to_have_count(0)
    await tab.evaluate(hide, False)
    await expect(rows(tab)).to_have_count(1)


async def test_keyboard(tab: Any, sandbox: Sandbox) -> None:
    """Each control is reached by Tab, with a ring around it, and works by keys."""
    await call(sandbox, "p")
    await tab.goto(sandbox.url)
    await expect(rows(tab)).to_have_count(1)
    controls = "button, select, summary, input:not([type=radio]), input[type=radio]:checked"
    places = await tab.locator(controls).filter(visible=True).count()
    reached = set()
    told = """() => {
      const one = document.activeElement, shown = one.type === "radio" ? one.nextElementSibling : one;
      return [[...document.querySelectorAll("*")].indexOf(one), one.tagName, getComputedStyle(shown).outlineStyle];
    }"""
    for _ in range(places + 2):  # and the two lists, which scroll
        await tab.keyboard.press("Tab")
        place, name, outline = await tab.evaluate(told)
        assert outline == "solid", name
        reached.add(place)
    assert len(reached) == places + 2
    await tab.get_by_role("button", name="Fail the next call by error_after").focus()
    await tab.keyboard.press("Enter")
    await expect(tab.locator("#said")).to_contain_text("error_after")
    assert await call(sandbox, "p") == 502
    await rows(tab).first.focus()
    await tab.keyboard.press("Enter")
    await expect(tab.locator("#rows pre")).to_have_count(2)


CONTRAST = """() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = parts(color).map((value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = (one) => {
    const color = getComputedStyle(one).backgroundColor;
    return parts(color)[3] === 0 ? back(one.parentElement) : color;
  };
  const faint = [];
  for (const one of document.querySelectorAll("body *")) {
    if (!one.checkVisibility() || ![...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    const [low, high] = [light(getComputedStyle(one).color), light(back(one))].sort((a, b) => a - b);
    if ((high + 0.05) / (low + 0.05) < 4.5) faint.push(one.outerHTML);
  }
  return faint;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_width_and_scheme(tab: Any, sandbox: Sandbox, scheme: str) -> None:
    """From 360 to 2,000 pixels nothing runs out of the page, and all text stands out enough to be read."""
    await tab.emulate_media(color_scheme=scheme)
    sandbox.add_player("a-player-with-a-name-that-is-as-long-as-that-of-a-uuid", state="opt_out")
    await call(sandbox, "x" * 200, email=f"{'y' * 100}@example.com")
    sandbox.fail_next("identify", "response_lost", "error_after", "rate_limited")
    for number in range(4):
        await call(sandbox, f"p{number}")
    await call(sandbox, "")
    await tab.goto(sandbox.url)
    await expect(rows(tab)).to_have_count(6)
    await rows(tab).first.click()
    for width in (360, 640, 1000, 1600, 2000):
        await tab.set_viewport_size({"width": width, "height": 900})
        assert await tab.evaluate("document.documentElement.scrollWidth") == width
    assert await tab.evaluate(CONTRAST) == []


async def test_very_many_requests(tab: Any) -> None:
    """Nearly a thousand requests a second leave the page with time to spare, and of bounded size."""
    seconds = 60 if MANY else 3
    async with Sandbox(identify=100_000) as server, aiohttp.ClientSession() as http:
        await tab.goto(server.url)
        await expect(tab.locator("#link")).to_have_text("Live")
        begun = asyncio.get_running_loop().time()
        body = {"game_id": server.game_id, "secret_key": server.secret_key, "country_code": "US"}

        async def work(worker: int) -> None:
            for number in range(seconds * 834 // 20):
                async with http.post(server.url + IDENTIFY, json={**body, "user_id": f"p{worker}-{number}"}) as response:
                    await response.read()
                await asyncio.sleep(max(0, begun + number * 20 / 834 - asyncio.get_running_loop().time()))

        session = await tab.context.new_cdp_session(tab)
        await session.send("Performance.enable", {"timeDomain": "threadTicks"})  # not the time it waits for a busy machine
        async with asyncio.TaskGroup() as workers:
            for worker in range(20):
                workers.create_task(work(worker))
        taken = asyncio.get_running_loop().time() - begun
        metrics = {one["name"]: one["value"] for one in (await session.send("Performance.getMetrics"))["metrics"]}
        await expect(tab.locator("#totals")).to_contain_text(f"{server.seen[IDENTIFY].requests:,} requests")
        await tab.locator("#pause").click()
        await expect(tab.locator("#pause")).to_have_attribute("aria-pressed", "true")
        assert metrics["TaskDuration"] < taken / 2
        assert await tab.evaluate("document.querySelectorAll('*').length") < 3000
