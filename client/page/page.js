// What a deployment is doing, as GET events tells it. Whatever comes from elsewhere is put in as text, never as markup;
// all addresses are relative, as a proxy may have the page below a path of its own.
"use strict";

const byId = (id) => document.getElementById(id);
/** Events come at least every 5 s; if none has for so long, we ask whether there is still somebody. */
const SILENT_MS = 8000, LOOK_MS = 2500, AGAIN_MS = 1000;
const SVG = "http://www.w3.org/2000/svg";
const POST = { "orch-page": "1", "content-type": "application/json" };

let state = null; // as contracts/live.py has it
let skew = 0; // seconds that the deployment's clock is ahead of ours
let at = null, next = null, job = null; // the door that we came to, the one that has come since, and whose events we hear
let source = null, heard = 0, opened = false, lostSince = null, looking = false;

// --- pieces ---

/** An element; attributes that are null or false are left out, children are elements or texts. */
function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}
function svg(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}
function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}
/** Shows a section if there is something in it. */
function section(id, children) {
  const whole = byId(id);
  whole.hidden = children.length === 0;
  whole.querySelector("h2 + *").replaceChildren(...children);
}

const now = () => Date.now() / 1000 + skew;
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}
const clock = (time) => new Date((time - skew) * 1000).toLocaleTimeString([], { hourCycle: "h23" });
/** What is left until a time, counted down each second. */
const left = (time) => el("span", { "data-until": time }, span(time - now()));
function figure(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "s") return value < 1 ? `${(value * 1000).toPrecision(3) / 1} ms` : `${value.toPrecision(3) / 1} s`;
  return `${value < 100 ? value.toPrecision(3) / 1 : Math.round(value)}${unit ? ` ${unit}` : ""}`;
}

// --- the deployment ---

const PILLS = {
  healthy: "good", RUNNING: "good", COMPLETED: "good", done: "good", completed: "good",
  starting: "warn", degraded: "warn", sleeping: "warn", PENDING: "warn", CONFIGURING: "warn", COMPLETING: "warn", SUSPENDED: "warn",
  unhealthy: "bad", ended: "bad", FAILED: "bad", TIMEOUT: "bad", NODE_FAIL: "bad", OUT_OF_MEMORY: "bad", BOOT_FAIL: "bad", failed: "bad",
};
const pill = (word) => el("span", { class: `pill ${PILLS[word] ?? ""}` }, word.toLowerCase().replaceAll("_", " "));

function showDeployment({ name, id, model, engine, state: how, reason, security, idle }) {
  byId("name").textContent = name || id;
  byId("about").replaceChildren(`${model} by ${engine} · ${id}`, security === "none" ? " · open to everybody" : "");
  if (idle) byId("about").append(idle.ends === null ? ` · ends when idle for ${span(idle.timeout_s)}` : " · idle: ends in ", idle.ends === null ? "" : left(idle.ends));
  if (lostSince !== null) return;
  byId("state").className = `pill ${PILLS[how] ?? ""}`;
  byId("state").textContent = how;
  byId("reason").textContent = reason;
  document.title = `${how} – ${name || id}`;
}

const cell = (of, attributes, ...children) => el("td", { role: "cell", "data-of": of, ...attributes }, ...children);
const row = (...cells) => el("tr", { role: "row" }, ...cells);
function table(id, rows, none) {
  const columns = byId(id).querySelectorAll("th").length;
  byId(id).tBodies[0].replaceChildren(...(rows.length ? rows : [row(el("td", { role: "cell", colspan: columns, "data-of": "" }, none))]));
}

function showJobs(jobs) {
  table("jobs", jobs.map((job) => row(
    cell("Service", {}, job.service),
    cell("Job", {}, job.id),
    cell("State", {}, el("div", {}, pill(job.state), job.reason && job.reason !== "runs" ? el("small", {}, job.reason) : "")),
    cell("Node", {}, job.host ?? ""),
    cell("Time left", {}, job.ends !== null ? left(job.ends) : "", job.ends === null && job.expected ? `begins about ${clock(job.expected)}` : ""),
    cell("Successor", {}, job.successor ? el("div", {}, `${job.successor.id} `, pill(job.successor.state),
      job.successor.reason && job.successor.reason !== "runs" ? el("small", {}, job.successor.reason) : "") : ""),
  )), "No job is known yet.");
}

function showReplicas(replicas) {
  table("replicas", replicas.map((one) => row(
    cell("Address", {}, one.address),
    cell("State", {}, el("div", {}, el("span", { class: `pill ${one.ok ? "good" : "bad"}` }, one.ok ? "answers" : "out"), one.reason ? el("small", {}, one.reason) : "")),
    cell("Where", {}, el("div", {}, one.device ? one.device.toUpperCase() : "–", ...one.gpus.map((gpu) => el("small", {}, gpu)))),
    cell("Weights", {}, one.quantization ?? ""),
    cell("In flight", { class: "figure" }, String(one.in_flight)),
    cell("Queue", { class: "figure" }, String(one.queued)),
  )), "No engine has come yet.");
}

const showWarnings = (warnings) => section("warnings", warnings.map((one) => el("li", {}, el("strong", {}, one.what), " ", one.remedy)));

const PHASES = {
  serving: "This job serves.", submitted: "The next jobs are submitted.", waiting: "The next jobs are awaited.",
  handing_over: "New requests go to the next jobs; what is open is finished here.", handed_over: "The next jobs serve.",
};
function showHandover(hand) {
  if (!hand) return section("handover", []);
  note(hand.address);
  if (job !== null && hand.job !== job) listen(); // our door passes new requests on: the next jobs know how things stand
  job = hand.job;
  const lines = [el("p", {}, `Job ${hand.job}${hand.max_jobs ? ` of at most ${hand.max_jobs}` : ""}. ${PHASES[hand.phase] ?? hand.phase}`)];
  if (hand.phase === "serving" && hand.submit_at) lines.push(el("p", {}, "The next ones are submitted in ", left(hand.submit_at), "."));
  if (hand.successor) lines.push(el("p", {}, `Next: job ${[hand.successor.client, hand.successor.engine].filter(Boolean).join(" and ")}`, hand.expected ? `, expected to serve at ${clock(hand.expected)}.` : "."));
  if (hand.dark_s) lines.push(el("p", { class: "alarm" }, el("strong", {}, `Nobody will serve for ${span(hand.dark_s)}; it comes back by itself.`)));
  if (hand.problem) lines.push(el("p", {}, hand.problem));
  if (hand.address) lines.push(el("p", {}, "The new address: ", el("code", {}, hand.address), ". A tunnel of orch.py --connect follows by itself."));
  section("handover", lines);
}

// --- plots ---

const PLOTS = [
  { name: "Time to first token", unit: "s", lines: [["ttft_p50", "median"], ["ttft_p99", "p99"]] },
  { name: "Between two tokens", unit: "s", lines: [["itl_p50", "median"], ["itl_p99", "p99"]] },
  { name: "Tokens generated", unit: "tokens/s", lines: [["tokens_per_s", "all together"]] },
  { name: "Requests", unit: "", lines: [["in_flight", "in flight"], ["queued", "in the queue"]] },
];
const WIDTH = 300, HEIGHT = 100, MOST = 180;

function showSeries(series) {
  byId("plots").querySelector(".plots").replaceChildren(...PLOTS.map((plot) => drawn(plot, series)));
}
function drawn({ name, unit, lines }, series) {
  const of = (key) => series?.[key] ?? [];
  const top = Math.max(...lines.flatMap(([key]) => of(key)).filter((v) => v !== null), 0);
  const words = lines.map(([key, called], n) => [n ? "key-second" : "key-first", called, figure(of(key).at(-1), unit)]);
  const title = `${name}: ${words.map(([, called, value]) => `${called} ${value === "–" ? "none now" : value}`).join(", ")}; at most ${figure(top, unit)} in 15 minutes`;
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title },
    svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT - 1, y2: HEIGHT - 1 }), svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: 2, y2: 2 }),
    ...lines.flatMap(([key], n) => runs(of(key)).map((points) => curve(n ? "second" : "first", points.map(([x, v]) => `${place(x, of(key).length)},${height(v, top)}`)))));
  return el("figure", {}, el("figcaption", {}, name, el("span", {}, ...words.flatMap(([kind, called, value], n) => [n ? " · " : "", el("span", { class: kind }), `${called} `, el("b", {}, value)]))),
    picture, el("div", { class: "scale", "aria-hidden": "true" }, el("span", {}, "15 min ago"), el("span", {}, `top: ${figure(top, unit)}`), el("span", {}, "now")));
}
// A point with no neighbours is a dot.
const curve = (kind, points) => (points.length > 1 ? svg("polyline", { class: kind, points: points.join(" ") }) : svg("polyline", { class: `${kind} dot`, points: `${points[0]} ${points[0]}` }));
const place = (x, count) => (WIDTH - (count - 1 - x) * (WIDTH / (MOST - 1))).toFixed(1);
const height = (value, top) => (HEIGHT - 2 - (top ? value / top : 0) * (HEIGHT - 6)).toFixed(1);
/** Points without a gap between them; one alone is drawn as a dot. */
function runs(values) {
  const found = [];
  values.forEach((value, x) => {
    if (value === null) return;
    if (x && values[x - 1] !== null) found.at(-1).push([x, value]);
    else found.push([[x, value]]);
  });
  return found.map((points) => (points.length > 1 ? points : [points[0], points[0]]));
}
function addPoint(point) {
  const { time, ...values } = point;
  state.series ??= { start: time, step_s: 5 };
  for (const [key, value] of Object.entries(values)) state.series[key] = [...(state.series[key] ?? []), value].slice(-MOST);
  showSeries(state.series);
}

// --- a prompt ---

let asking = null;
byId("prompt").addEventListener("submit", async (event) => {
  event.preventDefault();
  const said = byId("answer"), figures = byId("prompt-figures"), began = performance.now();
  let first = null, tokens = 0, words = "";
  asking?.abort();
  const mine = (asking = new AbortController());
  said.textContent = figures.textContent = "";
  busy("prompt", true);
  try {
    const answer = await fetch("v1/chat/completions", { method: "POST", headers: POST, signal: mine.signal, body: JSON.stringify({
      model: state?.deployment.model, stream: true, stream_options: { include_usage: true }, max_tokens: Number(byId("prompt-tokens").value),
      messages: [{ role: "user", content: byId("prompt-text").value }] }) });
    if (!answer.ok) throw new Error(await problem(answer));
    for await (const piece of events(answer.body)) {
      if (piece.error) throw new Error(piece.error.message ?? piece.error);
      const text = piece.choices?.[0]?.delta?.content ?? "";
      if (text) first ??= performance.now();
      tokens = piece.usage?.completion_tokens ?? tokens;
      words += text;
      said.textContent = words;
    }
    const rate = tokens > 1 ? `, ${figure(((tokens - 1) * 1000) / (performance.now() - first), "tokens/s")}` : "";
    figures.textContent = first === null ? "The answer is empty." : `${plural(tokens, "token")}, the first after ${figure((first - began) / 1000, "s")}${rate}.`;
  } catch (error) {
    figures.textContent = mine.signal.aborted ? "Stopped." : `No answer: ${error.message}`;
  } finally {
    if (asking === mine) busy("prompt", false);
  }
});
byId("prompt-stop").addEventListener("click", () => asking?.abort());

function busy(what, is) {
  const stop = byId(`${what}-stop`), start = byId(what).querySelector("[type=submit]");
  const had = document.activeElement;
  stop.disabled = !is;
  start.disabled = is;
  if (had === start && is) stop.focus(); // whoever works by keyboard stays where he was
  if (had === stop && !is) start.focus();
}
/** The objects of a stream of server-sent events. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:") && line.trim() !== "data: [DONE]") yield JSON.parse(line.slice(5));
  }
}
async function problem(answer) {
  const found = await answer.json().catch(() => ({}));
  return found.error?.message ?? (typeof found.error === "string" ? found.error : `HTTP ${answer.status}`);
}

// --- benchmarks ---

let run = null; // the one that was begun here, or seen to run
byId("benchmark").addEventListener("submit", async (event) => {
  event.preventDefault();
  const number = (id) => Number(byId(id).value);
  byId("benchmark-found").replaceChildren();
  const answer = await ask("benchmark", { method: "POST", headers: POST, body: JSON.stringify({ wait: false, n_clients: number("n-clients"), n_requests_per_client: number("n-requests"), num_predict: number("n-tokens") }) });
  if (answer) {
    run = answer.id;
    byId("benchmark-said").textContent = `${run} has begun.`;
    busy("benchmark", true);
  }
});
byId("benchmark-stop").addEventListener("click", () => run && ask(`benchmark/${run}`, { method: "DELETE", headers: POST }));

async function ask(path, how) {
  try {
    const answer = await fetch(path, how);
    if (answer.ok) return await answer.json();
    byId("benchmark-said").textContent = await problem(answer);
  } catch {
    byId("benchmark-said").textContent = "The deployment did not answer.";
  }
  return null;
}
async function showBenchmark(mark) {
  byId("benchmark-now").replaceChildren(...(mark ? [progress(`${mark.run}: ${mark.state}`, mark.done, mark.planned, mark.failed, mark.eta_s)] : []));
  const runs = mark?.state === "running";
  if (runs) run = mark.run;
  busy("benchmark", runs);
  if (!mark || runs || run !== mark.run) return;
  run = null;
  byId("benchmark-said").textContent = `${mark.run}: ${mark.state}.`;
  const found = await ask(`benchmark/${mark.run}`, {});
  if (found) byId("benchmark-found").replaceChildren(...result(found));
}
function result(found) {
  if (found.error) return [el("p", {}, found.error.message)];
  const lines = [
    ["Requests", `${found.successful ?? 0} answered, ${found.failed ?? 0} failed`],
    ["Time to first token", both(found.latency_seconds?.ttft)], ["Between two tokens", both(found.latency_seconds?.itl)],
    ["Requests a second", figure(found.queries_per_second)],
    ["May be used", found.validity ? (found.validity.valid ? "yes" : `no: ${found.validity.reasons.join(" ")}`) : null],
  ];
  return [el("dl", {}, ...lines.filter(([, value]) => value).flatMap(([what, value]) => [el("dt", {}, what), el("dd", {}, value)])),
    el("p", { class: "quiet" }, "Its report is among those below as soon as it is made.")];
}
const both = (figures) => (figures?.p50 === undefined || figures?.p50 === null ? null : `median ${figure(figures.p50, "s")}, p99 ${figure(figures.p99, "s")}`);

/** A bar with words; `planned` null: nobody knows how long it is. */
function progress(what, done, planned, failed, eta) {
  const words = `${what}, ${done}${planned ? ` of ${planned}` : ""}${failed ? `, ${failed} failed` : ""}${eta ? `, about ${span(eta)} more` : ""}`;
  return el("div", {}, el("p", {}, words), planned ? el("progress", { max: planned, value: done, "aria-label": words }) : "");
}
function showWork() {
  const campaign = state.campaign;
  section("work", [
    ...state.batches.map((batch) => progress(`Batch ${batch.id}: ${batch.state.replaceAll("_", " ")}`, batch.completed, batch.total, batch.failed)),
    ...(campaign ? [progress(`Campaign ${campaign.name}, ${campaign.group}: repetitions`, campaign.done, campaign.planned)] : []),
  ]);
}

// --- lines, reports, logs ---

function showCopy(lines) {
  section("copy", lines.map(({ name, line }) => {
    const text = el("pre", { tabindex: 0, role: "region", "aria-label": `Line for ${name}` }, line);
    const button = el("button", { type: "button", "aria-label": `Copy the line for ${name}` }, "Copy");
    button.addEventListener("click", () => copy(name, text));
    return el("div", { class: "copy" }, el("h3", {}, name), text, button);
  }));
}
async function copy(name, text) {
  getSelection().selectAllChildren(text); // so that it can be copied by hand at a plain http address
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text.textContent);
    else if (!document.execCommand("copy")) throw new Error();
    byId("copied").textContent = `The line for ${name} is copied.`;
  } catch {
    byId("copied").textContent = `The line for ${name} is selected; copy it by your keyboard.`;
  }
}
const showReports = (reports) => section("reports", reports.map(({ name }) => el("li", {}, el("a", { href: `benchmark/${encodeURIComponent(name)}/report.html` }, name))));
/** What is open stays open, and who reads stays where he reads. */
function showLogs(logs) {
  const place = byId("logs").querySelector("h2 + *");
  byId("logs").hidden = logs.length === 0;
  const known = new Map([...place.children].map((one) => [one.dataset.of, one]));
  place.replaceChildren(...logs.map(({ service, lines }) => {
    const one = known.get(service) ?? el("details", { "data-of": service }, el("summary", {}, service), el("pre", { tabindex: 0, role: "region", "aria-label": `Log of ${service}` }));
    const text = one.querySelector("pre"), last = text.scrollTop + text.clientHeight >= text.scrollHeight - 4;
    if (text.textContent !== lines.join("\n")) text.textContent = lines.join("\n");
    if (last) text.scrollTop = text.scrollHeight;
    return one;
  }));
}

// --- events ---

const SHOW = {
  deployment: showDeployment, jobs: showJobs, replicas: showReplicas, series: showSeries, benchmark: showBenchmark, batches: showWork,
  campaign: showWork, handover: showHandover, warnings: showWarnings, logs: showLogs, copy: showCopy, reports: showReports,
};
function note(address) {
  if (!address) return;
  at ??= address;
  if (address !== at) next = address;
}
function takeWhole(whole) {
  state = whole;
  note(whole.deployment.address);
  skew = whole.time - Date.now() / 1000;
  for (const [key, show] of Object.entries(SHOW)) show(state[key]);
}
function listen() {
  source?.close();
  source = new EventSource("events");
  const on = (name, take) => source.addEventListener(name, (event) => { hear(); take(JSON.parse(event.data)); });
  on("state", takeWhole);
  on("point", (point) => state && addPoint(point));
  for (const [key, show] of Object.entries(SHOW)) on(key, (data) => { if (state) { state[key] = data; show(data); } });
  opened = false;
  source.onerror = () => {
    source.close();
    if (opened) look();
    else setTimeout(look, AGAIN_MS);
  };
}
function hear() {
  heard = Date.now();
  opened = true;
  if (lostSince === null) return;
  lostSince = null;
  byId("lost").replaceChildren();
}
/** Is there still somebody? Asked at once when events end, then each second. */
async function look() {
  if (looking) return;
  looking = true;
  source?.close();
  try {
    const answer = await fetch("state", { signal: AbortSignal.timeout(LOOK_MS), cache: "no-store" });
    if (answer.status === 401) return lost("This browser's session is over.", "Have another link printed: orch.py --link.");
    if (!answer.ok) return lost(await problem(answer), "It is asked again.");
    heard = Date.now();
    listen();
  } catch {
    gone();
  } finally {
    looking = false;
    if (source?.readyState === EventSource.CLOSED) setTimeout(look, AGAIN_MS);
  }
}
function gone() {
  if (next && new URL(at).host === location.host) { // by no tunnel
    if (new URL(next).hostname === location.hostname) return location.replace(new URL(next).href); // the cookie is good there
    return lost(`The deployment has moved to ${next}.`, "Have a link to it printed: orch.py --link.");
  }
  lost("The deployment does not answer any more.", `It has ended, or the way to it is broken (a tunnel?). See orch.py --status${state ? ` ${state.deployment.id}` : ""}. It is asked again each second.`);
}
function lost(what, remedy) {
  if (lostSince === null) {
    lostSince = Date.now() / 1000 + skew;
    byId("state").className = "pill bad";
    byId("state").textContent = "no answer";
    byId("reason").textContent = `since ${clock(lostSince)}`;
    document.title = `no answer – ${state?.deployment.name ?? "deployment"}`;
  }
  const words = `${what} ${remedy}`;
  if (byId("lost").textContent !== words) byId("lost").replaceChildren(el("p", {}, `${what} `), remedy);
}

setInterval(() => {
  for (const one of document.querySelectorAll("[data-until]")) one.textContent = span(Number(one.dataset.until) - now());
  byId("age").textContent = state ? `As of ${clock(heard / 1000 + skew)}.` : "";
  if (heard && Date.now() - heard > SILENT_MS && source?.readyState !== EventSource.CLOSED) look();
}, 1000);
showSeries(null);
listen();
