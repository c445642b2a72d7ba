// The curves of the cache page, from the points of /v1/cache/stats.

import { Chart } from "./cache-chart.js";
import { duration, milliseconds, money, percent, short } from "./cache-format.js";

const SLOT = 300; // seconds of a point
const SHORTEST = 1800; // seconds of the time axis
const kindOf = (one) => one.kind.replace("DECISION_KIND_", "").toLowerCase();
const middle = (point) => point.start + SLOT / 2;
const all = (point) => Number(point.exact) + Number(point.semantic) + Number(point.misses) + Number(point.bypasses);
const judged = (point) => Number(point.right) + Number(point.wrong);

const SAVINGS = {
  tokens: { title: "Tokens saved", format: short, of: (point) => Number(point.saved.prompt_tokens) + Number(point.saved.completion_tokens) },
  money: { title: "Money saved", format: money, of: (point) => point.saved_money },
  seconds: { title: "Time saved", format: duration, of: (point) => point.saved.seconds },
};

function running(points, of) {
  let sum = 0;
  return points.map((point) => [middle(point), (sum += of(point))]);
}

export class Curves {
  constructor(container) {
    this.outcomes = new Chart({ title: "Share of questions", format: percent, empty: "No questions in this period." });
    this.saved = new Chart({ title: "Tokens saved", format: short, empty: "Nothing was saved in this period." });
    this.wrong = new Chart({ title: "Hits that may be wrong", format: percent, empty: "No semantic hits in this period." });
    this.took = new Chart({ title: "Median time of a lookup", format: (ms) => milliseconds(ms / 1000), empty: "No lookups in this period.", isLogarithmic: true });
    container.append(...[this.outcomes, this.saved, this.wrong, this.took].map((chart) => chart.node));
  }

  // The axis begins with the first point, so that a new installation does not show an empty day.
  update(points, period, saving) {
    const end = Date.now() / 1000;
    const first = points.length ? points[0].start : end;
    const times = { start: Math.max(end - period, Math.min(first, end - SHORTEST)), end };
    const asked = points.filter(all);
    const share = (name, className, of) => ({ name, className, values: asked.map((point) => [middle(point), of(point) / all(point)]) });
    this.outcomes.update({
      ...times,
      series: [
        share("exact", "exact", (point) => Number(point.exact)),
        share("semantic", "semantic", (point) => Number(point.semantic)),
        share("written anew", "miss", (point) => Number(point.misses) + Number(point.bypasses)),
      ],
    });
    const { title, format, of } = SAVINGS[saving];
    this.saved.update({ ...times, title: `${title}, in total`, format, series: [{ name: title, className: "exact", values: running(points, of) }] });
    const semantic = points.filter((point) => Number(point.semantic));
    const series = [{ name: "estimated", className: "bad", values: semantic.map((point) => [middle(point), point.expected_wrong / point.semantic]) }];
    const checked = points.filter(judged);
    if (checked.length) series.push({ name: "judged wrong", className: "accent", values: checked.map((point) => [middle(point), point.wrong / judged(point)]) });
    this.wrong.update({ ...times, series });
    this.took.update({
      ...times,
      series: [["exact", "exact"], ["semantic", "semantic"], ["miss", "miss"]].map(([kind, className]) => ({
        name: kind,
        className,
        values: points.flatMap((point) => point.latencies.filter((one) => kindOf(one) === kind).map((one) => [middle(point), one.p50 * 1000])),
      })),
    });
  }
}
