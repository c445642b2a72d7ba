// Shows the cache's statistics from /v1/cache/stats, and updates them every ten seconds.

import { call, element } from "./api.js";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, EDGE] = [600, 220, 24];
const DAY = 86400;

function drawn(name, attributes, text = "") {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const counted = (number) => Number(number).toLocaleString("en");
const interval = (share) => `95 %: ${percent(share.low)} to ${percent(share.high)}`;
const milliseconds = (seconds) => (seconds * 1000).toFixed(2);
const kindOf = (one) => one.kind.replace("DECISION_KIND_", "").toLowerCase();

function tile(name, value, remark = "") {
  const box = element("div");
  const data = element("dd", value);
  if (remark) data.append(element("small", remark));
  box.append(element("dt", name), data);
  return box;
}

function showTiles(stats) {
  const judged = stats.wrong_ratio.low > 0 || stats.wrong_ratio.high < 1;
  $("tiles").replaceChildren(
    tile("hit ratio", percent(stats.hit_ratio.value), interval(stats.hit_ratio)),
    tile("exact hits", counted(stats.exact)),
    tile("semantic hits", counted(stats.semantic)),
    tile("hits of curated answers", counted(stats.curated)),
    tile("misses", counted(stats.misses)),
    tile("bypasses", counted(stats.bypasses), "requested, not cacheable, or the cache failed"),
    tile("wrong hits, of those judged", judged ? percent(stats.wrong_ratio.value) : "none judged",
      judged ? interval(stats.wrong_ratio) : ""),
    tile("tokens saved", counted(Number(stats.saved.prompt_tokens) + Number(stats.saved.completion_tokens)),
      `${counted(stats.saved.completion_tokens)} of them completion tokens`),
    tile("seconds of generation saved", counted(Math.round(stats.saved.seconds))),
    tile("money saved", stats.saved_money.toFixed(2), "at MEMETWIN_LLM_PRICES"),
  );
}

function showLatencies(latencies) {
  $("latencies").replaceChildren(...latencies.map((one) => {
    const row = element("tr");
    const lookups = one.buckets.reduce((sum, bucket) => sum + Number(bucket.count), 0);
    const cells = [kindOf(one), counted(lookups), milliseconds(one.p50), milliseconds(one.p99)];
    row.append(...cells.map((text) => element("td", text)));
    return row;
  }));
}

// A curve is {name, values: [[seconds since 1970, number], …]}.
function figure(title, curves, format) {
  const end = Date.now() / 1000;
  const most = Math.max(...curves.flatMap((curve) => curve.values.map(([, value]) => value)), 1e-9);
  const x = (time) => EDGE + (WIDTH - 2 * EDGE) * (1 - (end - time) / DAY);
  const y = (value) => HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * value / most;
  const picture = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  picture.append(
    drawn("text", { x: EDGE, y: 14 }, format(most)),
    drawn("text", { x: EDGE, y: HEIGHT - 6 }, "a day ago"),
    drawn("text", { x: WIDTH - EDGE, y: HEIGHT - 6, "text-anchor": "end" }, "now"),
  );
  const caption = element("figcaption", `${title}: `);
  curves.forEach((curve, number) => {
    const points = curve.values.map(([time, value]) => [x(time).toFixed(1), y(value).toFixed(1)]);
    if (points.length) {
      picture.append(drawn("path", { class: `line-${number}`, d: `M${points.map((at) => at.join(" ")).join("L")}` }));
      picture.append(...points.map(([cx, cy]) => drawn("circle", { class: `line-${number}`, cx, cy, r: 2.5 })));
    }
    caption.append(number ? ", " : "", element("span", curve.name, { className: `key line-${number}` }));
  });
  const node = element("figure");
  node.append(picture, caption);
  return node;
}

function running(points, worth) {
  let sum = 0;
  return points.map((point) => [point.start, sum += worth(point)]);
}

function showCurves(points) {
  const shared = (part) => points
    .map((point) => [point, Number(point.exact) + Number(point.semantic) + Number(point.misses)])
    .filter(([, all]) => all)
    .map(([point, all]) => [point.start, part(point) / all]);
  const judged = points.filter((point) => Number(point.right) + Number(point.wrong));
  const took = (kind) => points.flatMap((point) => point.latencies
    .filter((one) => kindOf(one) === kind).map((one) => [point.start, one.p50 * 1000]));
  const tokens = (point) => Number(point.saved.prompt_tokens) + Number(point.saved.completion_tokens);
  $("curves").replaceChildren(
    figure("share of lookups", [
      { name: "exact", values: shared((point) => Number(point.exact)) },
      { name: "semantic", values: shared((point) => Number(point.semantic)) },
      { name: "misses", values: shared((point) => Number(point.misses)) },
    ], percent),
    figure("wrong hits, of those judged", [{
      name: "wrong",
      values: judged.map((point) => [point.start, point.wrong / (Number(point.right) + Number(point.wrong))]),
    }], percent),
    figure("saved in the last day", [{ name: "tokens", values: running(points, tokens) }], (most) => counted(Math.round(most))),
    figure("saved in the last day", [{ name: "money", values: running(points, (point) => point.saved_money) }], (most) => most.toFixed(4)),
    figure("saved in the last day", [{ name: "seconds of generation", values: running(points, (point) => point.saved.seconds) }], (most) => most.toFixed(1)),
    figure("p50 of lookups, ms", ["exact", "semantic", "miss"].map((kind) => ({ name: kind, values: took(kind) })), (most) => most.toFixed(2)),
  );
}

async function show() {
  try {
    const { body } = await call(`/v1/cache/stats?tenant=${encodeURIComponent($("tenant").value)}`);
    showTiles(body);
    showLatencies(body.latencies);
    showCurves(body.history);
    $("status").textContent = `As of ${new Date().toLocaleTimeString()}.`;
    $("status").classList.remove("error");
    return true;
  } catch (error) {
    for (const id of ["tiles", "latencies", "curves"]) $(id).replaceChildren();
    $("status").textContent = error.message;
    $("status").classList.add("error");
    return error.status !== 401; // the user gave no key: do not ask again every ten seconds
  }
}

let next = 0;

async function repeat() {
  clearTimeout(next);
  if (await show()) next = setTimeout(repeat, 10_000);
}

$("who").addEventListener("submit", (event) => { event.preventDefault(); repeat(); });
repeat();
