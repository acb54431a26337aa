"use strict";
// What clients sent is written as text only; the page's policy lets no HTML be made of it.

const KEPT = 100;
const FAULTS = {
  reset: "connection reset before the work",
  response_lost: "done, then the connection is closed",
  error_before: "a 500 before the work",
  error_after: "done, then a 502",
  stall: "done, and the answer comes late",
  not_json: "done, and the answer is a web page",
  rate_limited: "a 429 within the limit",
};
const NETWORK = {
  delay: "Delay each way, s",
  jitter: "Jitter each way, s",
  spike: "Share of spikes",
  spike_for: "A spike lasts, s",
  stall_for: "A stall lasts, s",
  seed: "Seed",
};
const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en-US");
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });

function make(name, className = "", text = "", ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function draw(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Limits

const WIDTH = 239, HEIGHT = 100;
const cards = new Map();

function makeCard(path) {
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const lines = {};
  for (const name of ["area", "curve", "limit", "base", "marks"]) svg.append(lines[name] = draw("path", { class: name }));
  lines.base.setAttribute("d", `M0 ${HEIGHT}H${WIDTH}`);
  const card = { svg, lines, last: make("strong"), of: make("span"), refused: make("span", "tag bad"), label: make("span", "label"), counts: make("p", "models"), models: make("span") };
  card.element = make("article", "plot", "",
    make("h3", "", path),
    make("p", "now", "", card.last, card.of),
    make("figure", "", "", svg, card.label),
    make("p", "ends", "", make("span", "", "60 s ago"), make("span", "", "now")),
    card.counts, make("p", "models", "", card.refused, card.models));
  return card;
}

function showPath(entry) {
  let card = cards.get(entry.path);
  if (!card) cards.set(entry.path, card = makeCard(entry.path));
  const { plot, marks, minute, limit } = entry;
  const last = plot[plot.length - 1], most = Math.max(...plot), top = Math.max(limit * 1.3, most * 1.1);
  const y = (value) => (HEIGHT * (1 - value / top)).toFixed(1);
  const curve = plot.map((value, x) => `${x} ${y(value)}`).join("L");
  card.lines.curve.setAttribute("d", `M${curve}`);
  card.lines.area.setAttribute("d", `M0 ${HEIGHT}L${curve}L${WIDTH} ${HEIGHT}Z`);
  card.lines.limit.setAttribute("d", `M0 ${y(limit)}H${WIDTH}`);
  card.lines.marks.setAttribute("d", marks.map(([x]) => `M${x} 0V9`).join(""));
  card.label.style.top = `${y(limit)}%`;
  write(card.label, `limit ${number.format(limit)}`);
  write(card.last, number.format(last));
  write(card.of, `of ${number.format(limit)} in the last second`);
  card.refused.hidden = !minute.rate_limited;
  write(card.refused, `${number.format(minute.rate_limited)} rate-limited`);
  card.svg.setAttribute("aria-label", `${entry.path}: ${last} requests in the last second, at most ${most} in any second of the last minute, of ${limit}`);
  write(card.counts, `${number.format(minute.requests)} in the last minute, ${number.format(entry.busiest)} in the busiest second`);
  write(card.models, `A sliding window would refuse ${number.format(minute.sliding)}, a fixed one ${number.format(minute.fixed)}`);
  return card.element;
}

function showLimits(paths) {
  const active = paths.filter((entry) => entry.plot), silent = paths.filter((entry) => !entry.plot);
  const elements = active.map(showPath);
  if (elements.length !== $("plots").childElementCount || elements.some((one, place) => $("plots").children[place] !== one)) $("plots").replaceChildren(...elements);
  $("empty").hidden = active.length > 0;
  $("silent").hidden = !active.length || !silent.length;
  write($("silent").firstChild, `${silent.length} paths without a request in this minute`);
  const text = silent.map((entry) => `${entry.path} ${entry.limit}`).join();
  if ($("silent").dataset.text !== text) {
    $("silent").dataset.text = text;
    $("silent").lastChild.replaceChildren(...silent.map((entry) => make("li", "", "", make("code", "", entry.path), make("span", "", `${number.format(entry.limit)}/s`))));
  }
}

// Requests

let requests = { all: [], failed: [] };
let pressed = false, shown = null, newest = -1, kind = "all";
const wrong = (one) => one.fault !== null || one.status >= 400;

function takeRequests(latest) {
  for (const one of latest) {
    if (one.number <= newest) continue;
    newest = one.number;
    for (const name of wrong(one) ? ["all", "failed"] : ["all"]) {
      requests[name].push(one);
      if (requests[name].length > KEPT) requests[name].shift();
    }
  }
}

function describe(one) {
  const done = one.done ? "done" : "not done";
  if (one.status === null) return [["bad", `no answer, ${done}`]];
  if (one.status === 429) return [["bad", "429 rate-limited"]];
  return [[one.status >= 500 ? "bad" : one.status >= 400 ? "odd" : "good", `${one.status} ${done}`]];
}

function format(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function makeRow(one) {
  const tags = describe(one);
  if (one.fault !== null && one.fault !== "rate_limited") tags.unshift(["odd", one.fault]);
  if (one.fault === "rate_limited") tags.unshift(["odd", "asked for"]);
  const call = make("span", "call", one.call), who = make("span", "who", one.user_id || "–");
  call.title = one.call;
  who.title = one.user_id;
  const row = make("details", "", "", make("summary", "", "",
    make("time", "when", clock.format(one.when * 1000)), call, who,
    make("span", "what", "", ...tags.map(([tag, text]) => make("span", `tag ${tag}`, text)))));
  row.dataset.number = one.number;
  row.addEventListener("toggle", () => {
    if (row.open && row.childElementCount === 1) {
      const answer = one.answer === null ? "The connection was cut: there was no answer." : format(one.answer) || "–";
      row.append(make("div", "more", "",
        make("div", "", "", make("h4", "", "Parameters, without credentials"), make("pre", "", format(one.parameters))),
        make("div", "", "", make("h4", "", "Answer"), make("pre", "", answer))));
    }
    showRequests();
  });
  return row;
}

function isHeld() {
  const rows = $("rows");
  return pressed || rows.scrollTop > 0 || rows.querySelector("[open]") !== null || rows.matches(":hover") || rows.querySelector("summary:focus-visible") !== null;
}

function showRequests() {
  const rows = $("rows"), list = requests[kind], held = shown !== null && isHeld();
  const fresh = list.filter((one) => one.number > (shown ?? -1));
  $("pause").setAttribute("aria-pressed", String(held));
  write($("pause"), held ? `Resume${fresh.length ? `, ${fresh.length < KEPT ? fresh.length : `${KEPT}+`} new` : ""}` : "Pause");
  if (held || (!fresh.length && shown !== null)) return;
  if (shown === null || fresh.length === KEPT) rows.replaceChildren();
  rows.prepend(...fresh.reverse().map(makeRow));
  while (rows.childElementCount > KEPT) rows.lastElementChild.remove();
  if (!list.length) rows.append(make("p", "none", kind === "all" ? "None yet." : "Nothing went wrong yet. The faults let something."));
  else rows.querySelector(".none")?.remove();
  shown = list.length ? list[list.length - 1].number : -1;
}

function showAnew() {
  shown = null;
  $("rows").scrollTop = 0;
  $("rows").replaceChildren();
  showRequests();
}

$("pause").addEventListener("click", () => {
  pressed = $("pause").getAttribute("aria-pressed") !== "true";
  if (pressed) return showRequests();
  showAnew();
});
for (const radio of document.getElementsByName("kind")) radio.addEventListener("change", () => {
  kind = radio.value;
  showAnew();
});
for (const name of ["pointerenter", "pointerleave", "scroll", "focusout"]) $("rows").addEventListener(name, () => setTimeout(showRequests));

// Players

function showPlayers(players) {
  write($("crowd"), `${number.format(players.count)} known${players.excluded ? `, ${number.format(players.excluded)} excluded` : ""}, the latest first`);
  const text = JSON.stringify(players.shown), body = document.querySelector("tbody");
  if (body.dataset.text === text) return;
  body.dataset.text = text;
  body.replaceChildren(...players.shown.map((player) => make("tr", "", "",
    make("td", "", player.user_id, ...(player.email ? [make("small", "", player.email)] : [])),
    make("td", "number", number.format(player.sessions)),
    make("td", "", "", ...player.states.map(([channel, state]) => make("span", `tag${state === "opt_in" || state === "available" ? "" : " odd"}`, `${channel} ${state}`))),
    make("td", "", player.excluded || ""))));
  if (!players.shown.length) body.append(make("tr", "", "", Object.assign(make("td", "none", $("find").value ? "No player has these letters in the id." : "None yet."), { colSpan: 4 })));
}

let typing;
$("find").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(connect, 200);
});

// Faults

const inputs = new Map();

let silence;

function say(text, ok = true) {
  clearTimeout(silence);
  $("said").textContent = text;
  $("said").className = ok ? "" : "bad";
  if (ok) silence = setTimeout(() => write($("said"), ""), 8000);
}

async function control(given, done) {
  let text = done, ok = true;
  try {
    const response = await fetch("/sandbox/controls", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(given) });
    if (!response.ok) [ok, text] = [false, await response.text()];
  } catch {
    [ok, text] = [false, "The sandbox does not answer."];
  }
  say(text, ok);
  return ok;
}

function makeInput(group, name, step) {
  const input = make("input");
  Object.assign(input, { type: "number", min: 0, step, id: `${group}-${name}` });
  input.addEventListener("change", async () => {
    const value = input.valueAsNumber;
    const ok = await control({ settings: { [group]: { [name]: Number.isNaN(value) ? null : value } } }, `${name} is ${value} now.`);
    input.setAttribute("aria-invalid", String(!ok));
  });
  inputs.set(`${group} ${name}`, input);
  return input;
}

function makeField(group, name, text, step) {
  return make("label", "", text, makeInput(group, name, step));
}

function makeControls(about) {
  inputs.clear();
  $("call").replaceChildren(...Object.keys(about.calls).map((name) => Object.assign(make("option", "", name), { value: name })));
  while ($("kinds").childElementCount > 1) $("kinds").lastChild.remove();
  for (const name of about.faults) {
    const drawn = about.drawn.includes(name);
    const label = make(drawn ? "label" : "span", "name", name, make("small", "", FAULTS[name]));
    const button = make("button", "", "Next one");
    button.type = "button";
    button.setAttribute("aria-label", `Fail the next call by ${name}`);
    button.addEventListener("click", () => control({ fail_next: [$("call").value, name] }, `The next ${$("call").value}: ${name}.`));
    const row = make("div", "kind", "", label);
    if (drawn) {
      const input = makeInput("faults", name, 0.01);
      label.htmlFor = input.id;
      input.max = 1;
      input.classList.add("share");
      row.append(input);
    }
    row.append(button);
    $("kinds").append(row);
  }
  $("network").replaceChildren(...Object.entries(NETWORK).map(([name, text]) => makeField("faults", name, text, name === "seed" ? 1 : 0.01)));
  $("allowed").replaceChildren(...Object.keys(about.usual.limits).map((name) => makeField("limits", name, name, 1)));
}

function showSettings(settings, usual, pending) {
  for (const [key, input] of inputs) {
    const [group, name] = key.split(" "), value = settings[group][name];
    input.classList.toggle("set", value !== usual[group][name]);
    if (document.activeElement !== input && input.valueAsNumber !== value) {
      input.valueAsNumber = value;
      input.removeAttribute("aria-invalid");
    }
  }
  for (const radio of document.getElementsByName("window")) radio.checked = radio.value === settings.window;
  write($("python"), settings.python);
  write($("shell"), settings.shell);
  for (const option of $("call").options) {
    const waiting = pending[option.value];
    write(option, option.value + (waiting ? `: ${waiting.length > 3 ? `${waiting.length} faults` : waiting.join(", ")}` : ""));
  }
}

for (const radio of document.getElementsByName("window")) radio.addEventListener("change", () => control({ settings: { window: radio.value } }, `The window is ${radio.value} now.`));
$("reset").addEventListener("click", () => control({ reset: true }, "All is as the sandbox was started."));
for (const button of document.querySelectorAll(".copy button")) button.addEventListener("click", async () => {
  const line = button.previousElementSibling;
  try {
    await navigator.clipboard.writeText(line.textContent);
    say("Copied.");
  } catch {
    getSelection().selectAllChildren(line);
    say("Selected: copy it with the keyboard.");
  }
});

// Events

let source, about, run;

function showLink(text, className) {
  write($("link"), text);
  $("link").className = `tag ${className}`;
}

function connect() {
  source?.close();
  if (document.hidden) return;
  source = new EventSource(`/sandbox/events?find=${encodeURIComponent($("find").value)}`);
  source.addEventListener("about", (event) => {
    about = JSON.parse(event.data);
    write($("url"), about.url);
    if (about.run === run) return;
    run = about.run;
    requests = { all: [], failed: [] };
    newest = -1;
    pressed = false;
    makeControls(about);
    showAnew();
  });
  source.addEventListener("message", (event) => {
    const data = JSON.parse(event.data);
    showLink("Live", "good");
    write($("totals"), `${number.format(data.requests)} requests, ${number.format(data.players.count)} players`);
    write($("failures"), number.format(data.failures));
    takeRequests(data.new);
    showLimits(data.paths);
    showRequests();
    showPlayers(data.players);
    showSettings(data.settings, about.usual, data.pending);
  });
  source.addEventListener("error", () => {
    showLink("Reconnecting", "odd");
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 1000);
  });
}

// A page that nobody sees asks for nothing.
document.addEventListener("visibilitychange", connect);
connect();
