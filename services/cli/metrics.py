"""Metrics of an evaluation: nDCG, recall, reciprocal rank, refusals, latency."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

DEPTH = 100
STAGES = ("embed", "search", "arrange", "rerank", "total")


@dataclass(frozen=True)
class Retrieved:
    """The response to a question: the documents, best first, and the seconds of each stage."""

    documents: list[str]
    refused: bool
    seconds: dict[str, float]


@dataclass
class Metrics:
    """The measurements of all questions. Shares are in [0, 1], times are in seconds."""

    ndcg: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)
    reciprocal_rank: list[float] = field(default_factory=list)
    responses: list[Retrieved] = field(default_factory=list)
    answerable_refused: int = 0
    unanswerable_refused: int = 0
    unanswerable: int = 0

    def stages(self) -> list[str]:
        """Return the stages with a duration above zero."""
        return [
            stage for stage in STAGES if any(response.seconds[stage] for response in self.responses)
        ]

    def mean(self, name: str) -> float:
        """Return the mean of the metric with this name."""
        values: list[float] = getattr(self, name)
        return sum(values) / max(1, len(values))

    def latency(self, stage: str, quantile: float) -> float:
        """Return a quantile of the seconds that a stage took for answerable questions."""
        times = sorted(response.seconds[stage] for response in self.responses)
        return times[min(len(times) - 1, int(quantile * len(times)))]

    def refusal(self) -> tuple[float, float]:
        """Return the precision and the recall of refusals."""
        refused = self.answerable_refused + self.unanswerable_refused
        precision = self.unanswerable_refused / max(1, refused)
        return precision, self.unanswerable_refused / max(1, self.unanswerable)

    def table(self) -> str:
        """Return all metrics as a Markdown table."""
        rows = [
            ("nDCG@10", f"{self.mean('ndcg'):.4f}"),
            (f"recall@{DEPTH}", f"{self.mean('recall'):.4f}"),
            ("MRR", f"{self.mean('reciprocal_rank'):.4f}"),
            ("answerable questions refused", f"{self.answerable_refused} of {len(self.responses)}"),
        ]
        if self.unanswerable:
            precision, recall = self.refusal()
            rows += [
                (
                    "unanswerable questions refused",
                    f"{self.unanswerable_refused} of {self.unanswerable}",
                ),
                ("refusal precision", f"{precision:.4f}"),
                ("refusal recall", f"{recall:.4f}"),
            ]
        for stage in self.stages():
            times = " / ".join(f"{self.latency(stage, at) * 1000:.1f}" for at in (0.5, 0.95))
            rows.append((f"{stage}, ms p50 / p95", times))
        return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def ndcg(found: Sequence[str], relevant: dict[str, float], depth: int = 10) -> float:
    """Return the normalised discounted cumulative gain of the first ``depth`` documents."""
    gain = sum(relevant.get(key, 0) / math.log2(at + 2) for at, key in enumerate(found[:depth]))
    best = sorted(relevant.values(), reverse=True)[:depth]
    return gain / sum(value / math.log2(at + 2) for at, value in enumerate(best))


def draw(metrics: Metrics, file: Path) -> None:
    """Draw the distribution of nDCG@10 and the duration of each stage as a PNG."""
    import matplotlib  # noqa: PLC0415 - slow to import

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    picture, (quality, time_spent) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    quality.hist(metrics.ndcg, bins=20, range=(0, 1), color="tab:blue")
    quality.set(title=f"nDCG@10, mean {metrics.mean('ndcg'):.3f}", xlabel="nDCG@10")
    quality.set_ylabel("questions")
    stages = metrics.stages()
    times = [[response.seconds[stage] * 1000 for response in metrics.responses] for stage in stages]
    time_spent.boxplot(times, tick_labels=stages, showfliers=False)
    time_spent.set(title="Duration by stage", ylabel="ms")
    picture.savefig(file, dpi=120)
    pyplot.close(picture)
