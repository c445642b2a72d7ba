// The page of the cache's owner: what the cache saves, and how often it may be wrong.

import { call, element } from "./api.js";
import { Curves } from "./cache-curves.js";
import { counted, duration, milliseconds, money, percent, short } from "./cache-format.js";
import { Lookups } from "./cache-lookups.js";
import { Purge } from "./cache-purge.js";

const $ = (id) => document.getElementById(id);
const PERIODS = { hour: 3600, day: 86400, all: 86400 };
const REPEAT = 10_000; // milliseconds
const OUTCOMES = [
  ["exact", "Exact hits", "the same question"],
  ["semantic", "Semantic hits", "a question that means the same"],
  ["misses", "Misses", "the language model wrote the answer"],
  ["bypasses", "Bypasses", "not for the cache"],
];
const COUNTS = ["exact", "semantic", "misses", "bypasses", "curated", "right", "wrong", "saved_money", "expected_wrong"];
const state = { facts: null, stats: null, loadedAt: 0, timer: 0, round: 0 };

const range = () => document.querySelector("[name=range]:checked").value;
const saving = () => document.querySelector("[name=saving]:checked").value;
const ALL = "*"; // the choice of all namespaces

// The query of all calls: the tenant, and the namespace if one is chosen.
function query() {
  const parameters = new URLSearchParams({ tenant: $("tenant").value });
  if ($("namespace").value !== ALL) parameters.set("namespace", $("namespace").value);
  return parameters;
}

function say(text) {
  $("status-text").textContent = text;
  $("status").hidden = !text;
  $("status").classList.toggle("error", Boolean(text));
}

function fillChoice(select, names, chosen, first = []) {
  const options = [...first, ...names.map((name) => [name, name || "(default)"])];
  select.replaceChildren(...options.map(([value, text]) => element("option", text, { value })));
  if (options.some(([value]) => value === chosen)) select.value = chosen;
}

async function loadScopes(tenant, namespace) {
  const { body } = await call(`/v1/cache/scopes?${new URLSearchParams({ tenant })}`);
  state.facts = body;
  const tenants = body.tenants.includes(tenant) || !tenant ? body.tenants : [tenant, ...body.tenants];
  fillChoice($("tenant"), tenants, tenant);
  fillChoice($("namespace"), body.namespaces, namespace, [[ALL, "All"]]);
  fillChoice($("purge-namespace"), body.namespaces.length ? body.namespaces : [""], namespace === ALL ? "" : namespace);
  $("tenant-choice").hidden = tenants.length < 2;
  $("namespace-choice").hidden = body.namespaces.length < 2;
  document.querySelector("[name=saving][value=money]").parentElement.hidden = !body.has_prices;
  $("list").hidden = $("reload").hidden = !body.lookup_log;
}

// The sums of the points since `start`, or the totals of all time.
function totals(stats) {
  const judged = (one) => ({ ...one, judged: one.right + one.wrong });
  if (range() === "all") {
    const share = stats.wrong_ratio;
    const sums = Object.fromEntries(COUNTS.map((name) => [name, Number(stats[name] ?? 0)]));
    return { ...sums, tokens: Number(stats.saved.prompt_tokens) + Number(stats.saved.completion_tokens), seconds: stats.saved.seconds, wrongShare: share };
  }
  const sums = Object.fromEntries([...COUNTS, "tokens", "seconds"].map((name) => [name, 0]));
  for (const point of points(stats)) {
    for (const name of COUNTS) sums[name] += Number(point[name] ?? 0);
    sums.tokens += Number(point.saved.prompt_tokens) + Number(point.saved.completion_tokens);
    sums.seconds += point.saved.seconds;
  }
  return judged(sums);
}

function points(stats) {
  const start = Date.now() / 1000 - PERIODS[range()];
  return stats.history.filter((point) => point.start + 300 > start);
}

const join = (parts) => (parts.length < 2 ? parts.join("") : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`);

function showSentence(sums) {
  const hits = sums.exact + sums.semantic;
  const questions = hits + sums.misses + sums.bypasses;
  if (!questions) {
    $("headline").textContent = "Nothing was asked";
    $("saved").textContent = { hour: "There were no questions in the last hour.", day: "There were no questions in the last day." }[range()] ?? "";
    $("wrong").textContent = "";
    return;
  }
  const noun = questions === 1 ? "question" : "questions";
  $("headline").textContent = hits
    ? `Of ${counted(questions)} ${noun}, ${percent(hits / questions)} cost nothing`
    : `${counted(questions)} ${noun}, and none from the cache yet`;
  const parts = [`${short(sums.tokens)} tokens`];
  if (state.facts.has_prices) parts.push(money(sums.saved_money));
  parts.push(duration(sums.seconds));
  $("saved").textContent = hits ? `The cache saved ${join(parts)}.` : "Ask the same question twice to see the cache answer.";
  if (hits && !state.facts.has_prices) $("saved").append(" ", element("small", "Set MEMETWIN_LLM_PRICES to see the money."));
  $("wrong").textContent = wrongText(sums);
}

function wrongText({ semantic, expected_wrong: expected }) {
  if (!semantic) return "";
  if (expected <= semantic / 10_000) return "Fewer than 1 in 10,000 semantic hits may be wrong.";
  const every = Math.round(semantic / expected);
  if (every < 2) return "Most semantic hits may be wrong.";
  return `About 1 in ${counted(every)} semantic hits may be wrong.`;
}

function judgedText(sums) {
  if (sums.wrongShare) {
    const { value, low, high } = sums.wrongShare;
    if (low === 0 && high === 1) return "Nobody has judged a hit yet. Use the thumbs below.";
    return `Of the hits that people judged, ${percent(value)} were wrong (95 % confidence interval: ${percent(low)} to ${percent(high)}).`;
  }
  if (!sums.judged) return "Nobody judged a hit in this period. Use the thumbs below.";
  return `People judged ${counted(sums.judged)} of the hits, and ${counted(sums.wrong)} of them ${sums.wrong === 1 ? "was" : "were"} wrong.`;
}

function showOutcomes(sums) {
  const questions = OUTCOMES.reduce((sum, [name]) => sum + sums[name], 0);
  const classes = { misses: "miss", bypasses: "bypass" };
  const shown = OUTCOMES.filter(([name]) => sums[name] || name !== "bypasses");
  $("share").replaceChildren(...shown.filter(([name]) => sums[name]).map(([name]) => {
    const part = element("span", "", { className: classes[name] ?? name });
    part.style.flexGrow = sums[name];
    return part;
  }));
  $("share").hidden = !questions;
  $("outcomes").replaceChildren(...shown.map(([name, title, meaning]) => {
    const item = element("li");
    item.append(
      element("span", title, { className: `key ${classes[name] ?? name}` }),
      element("strong", questions ? percent(sums[name] / questions) : "–"),
      element("small", `${counted(sums[name])}: ${meaning}`),
    );
    return item;
  }));
  const curated = sums.curated ? `Curated answers gave ${counted(sums.curated)} of the hits. ` : "";
  $("judged").textContent = curated + (sums.exact + sums.semantic ? judgedText(sums) : "");
}

function showLatencies(latencies) {
  const names = { exact: "Exact hit", semantic: "Semantic hit", miss: "Miss", bypass: "Bypass" };
  $("latencies").replaceChildren(...latencies.map((one) => {
    const lookups = one.buckets.reduce((sum, bucket) => sum + Number(bucket.count), 0);
    const row = element("tr");
    const kind = one.kind.replace("DECISION_KIND_", "").toLowerCase();
    row.append(element("td", names[kind]), ...[counted(lookups), milliseconds(one.p50), milliseconds(one.p99)].map((text) => element("td", text)));
    return row;
  }));
}

const curves = new Curves($("curves"));

function show() {
  const { stats } = state;
  if (!stats) return;
  const ever = ["exact", "semantic", "misses", "bypasses"].some((name) => Number(stats[name]));
  $("controls").hidden = !ever && $("tenant-choice").hidden;
  $("range").hidden = !ever;
  $("numbers").hidden = $("purging").hidden = !ever;
  $("empty").hidden = ever;
  if (!ever) {
    $("headline").textContent = "What the cache saves";
    $("saved").textContent = $("wrong").textContent = "";
    return;
  }
  const sums = totals(stats);
  showSentence(sums);
  showOutcomes(sums);
  showLatencies(stats.latencies);
  $("curves-text").textContent = range() === "all" ? "The curves go back one day. The sums above are those of all time." : "";
  curves.update(points(stats), PERIODS[range()], saving());
  $("updated").textContent = `Updated ${new Date().toLocaleTimeString()}`;
}

const lookups = new Lookups({ query, tenant: () => $("tenant").value, changed: () => load() });
const purge = new Purge({ tenant: () => $("tenant").value, changed: () => { load(); lookups.load(); } });

// Loads the statistics. Returns whether to load them again after a while.
async function load() {
  const round = ++state.round;
  try {
    const { body } = await call(`/v1/cache/stats?${query()}`);
    if (round !== state.round) return true;
    state.stats = body;
    state.loadedAt = Date.now();
    say("");
    show();
    return true;
  } catch (error) {
    if (round !== state.round) return true;
    const old = state.stats ? ` The numbers below are from ${new Date(state.loadedAt).toLocaleTimeString()}.` : "";
    say(error.message + old);
    if (!old) $("saved").textContent = $("wrong").textContent = "";
    return error.status !== 401; // the user gave no key: do not ask again
  }
}

async function repeat() {
  clearTimeout(state.timer);
  const isWanted = document.hidden || (await load());
  if (isWanted) state.timer = setTimeout(repeat, REPEAT);
  if (!document.hidden) lookups.loadIfIdle();
}

async function start() {
  const address = new URLSearchParams(location.search);
  const chosen = document.querySelector(`[name=range][value="${CSS.escape(address.get("range") ?? "")}"]`);
  if (chosen) chosen.checked = true;
  try {
    await loadScopes(address.get("tenant") ?? "", address.get("namespace") ?? ALL);
  } catch (error) {
    return say(error.message);
  }
  $("empty-text").hidden = false;
  if (!state.facts.can_chat) $("empty-text").textContent = "Set MEMETWIN_LLM_BASE_URL to your language model server, for example http://127.0.0.1:11434/v1, and start the gateway again. Then point any OpenAI client at it.";
  $("snippet").textContent = `from openai import OpenAI\n\nclient = OpenAI(base_url="${location.origin}/v1", api_key="${sessionStorage.length ? "YOUR KEY" : "none"}")\nclient.chat.completions.create(model="", messages=[{"role": "user", "content": "What is a meme?"}])`;
  await repeat();
}

// Keeps what is chosen in the address, so that it survives a reload and can be passed on.
function remember() {
  const parameters = query();
  if (!$("tenant").value) parameters.delete("tenant");
  if (range() !== "day") parameters.set("range", range());
  history.replaceState(null, "", `${location.pathname}${parameters.size ? `?${parameters}` : ""}`);
}

async function reload() {
  remember();
  lookups.clear();
  purge.clear();
  await repeat();
  lookups.load();
}

for (const input of document.querySelectorAll("[name=range]")) input.addEventListener("change", () => { remember(); show(); });
for (const input of document.querySelectorAll("[name=saving]")) input.addEventListener("change", show);
$("controls").addEventListener("submit", (event) => event.preventDefault());
$("namespace").addEventListener("change", reload);
$("tenant").addEventListener("change", async () => {
  state.stats = null;
  try {
    await loadScopes($("tenant").value, ALL);
    await reload();
  } catch (error) {
    say(error.message);
  }
});
$("retry").addEventListener("click", () => { say(""); (state.facts ? repeat() : start()); });
$("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText($("snippet").textContent);
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 2000);
});
addEventListener("visibilitychange", () => { if (!document.hidden && state.facts) repeat(); });
start();
