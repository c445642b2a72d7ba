"""Measures how well a running stack retrieves and refuses, on a corpus with relevance judgements.

Files are those of BEIR (Thakur et al., NeurIPS 2021): ``corpus.jsonl`` and ``queries.jsonl`` have
``_id`` or ``id`` and ``text``, ``qrels.tsv`` has query, document and relevance.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from tqdm import tqdm

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc
from services.cli.documents import Outgoing, send
from services.cli.load import Report

DEPTH = 100
STAGES = ("embed", "search", "arrange", "rerank", "total")
Judgements = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Asked:
    """What came back for a question: documents, best first, and seconds by stage."""

    documents: list[str]
    refused: bool
    seconds: dict[str, float]


@dataclass
class Figures:
    """What was measured; shares are in [0, 1], times are seconds."""

    ndcg: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)
    reciprocal: list[float] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    answerable_refused: int = 0
    unanswerable_refused: int = 0
    unanswerable: int = 0

    def stages(self) -> list[str]:
        """Return the stages that took any time."""
        return [stage for stage in STAGES if any(one.seconds[stage] for one in self.asked)]

    def mean(self, name: str) -> float:
        """Return the mean of a list of figures."""
        values: list[float] = getattr(self, name)
        return sum(values) / max(1, len(values))

    def latency(self, stage: str, share: float) -> float:
        """Return the seconds within which a share of the answerable questions finished a stage."""
        times = sorted(one.seconds[stage] for one in self.asked)
        return times[min(len(times) - 1, int(share * len(times)))]

    def refusal(self) -> tuple[float, float]:
        """Return precision and recall of refusals: of those made, and of those to be made."""
        made = self.answerable_refused + self.unanswerable_refused
        return self.unanswerable_refused / max(1, made), self.unanswerable_refused / max(
            1, self.unanswerable
        )

    def table(self) -> str:
        """Return all of it as Markdown."""
        rows = [
            ("nDCG@10", f"{self.mean('ndcg'):.4f}"),
            (f"recall@{DEPTH}", f"{self.mean('recall'):.4f}"),
            ("MRR", f"{self.mean('reciprocal'):.4f}"),
            ("answerable questions refused", f"{self.answerable_refused} of {len(self.asked)}"),
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


@dataclass(frozen=True)
class Task:
    """What to measure on."""

    corpus: Path
    queries: Path
    qrels: Path
    unanswerable: Path | None = None
    collection: str | None = None
    calibrate: bool = False
    rerank: bool = False


def run(channel: grpc.Channel, task: Task, say: Callable[[str], Any], picture: Path) -> Figures:
    """Ingest, calibrate if asked to, measure, print and draw."""
    stub = stub_of(channel)
    name = task.collection or collection_of(task.corpus)
    queries, judged = rows_of(task.queries), judgements(task.qrels)
    unanswerable = [row["text"] for row in rows_of(task.unanswerable)] if task.unanswerable else []
    say(ingest(channel, name, rows_of(task.corpus)).sentence())
    if task.calibrate:
        known = [row["text"] for row in queries if row["id"] in judged]
        say(told(calibrate(stub, name, known, unanswerable)))
    figures = measure(stub, name, queries, judged, rerank=task.rerank)
    measure_refusals(stub, name, unanswerable, figures)
    say(figures.table())
    draw(figures, picture)
    say(f"drawn: {picture}")
    return figures


def told(learnt: rag_pb2.CalibrateRefusalsResponse) -> str:
    """Say what a calibration came to."""
    return (
        f"Learnt from one half: questions are answered from a cosine of {learnt.min_score:.3f} on."
        f" Of {learnt.measured} others, {learnt.answerable_refused:.1%} of the answerable and"
        f" {learnt.unanswerable_refused:.1%} of the unanswerable are refused."
    )


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Read a file of JSON objects, one a line; ``_id`` is called ``id``."""
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]
    return [row | {"id": str(row.get("_id", row.get("id", "")))} for row in rows]


def judgements(file: Path) -> Judgements:
    """Read relevance judgements; a line of headings is skipped."""
    judged: Judgements = {}
    for line in file.read_text("utf-8").splitlines():
        query, document, relevance = line.split("\t")
        if relevance.lstrip("-").replace(".", "", 1).isdigit() and float(relevance) > 0:
            judged.setdefault(query, {})[document] = float(relevance)
    return judged


def collection_of(corpus: Path) -> str:
    """Return the collection for a corpus: the same file, the same collection."""
    return f"evaluate-{hashlib.sha256(corpus.read_bytes()).hexdigest()[:12]}"


def ingest(channel: grpc.Channel, collection: str, rows: Sequence[dict[str, Any]]) -> Report:
    """Ingest a corpus; what is there already is skipped."""
    outgoing = [
        Outgoing(
            rag_pb2.IngestHeader(
                collection=collection,
                id=row["id"],
                title=row.get("title", ""),
                media_type="text/plain",
            ),
            row["text"].encode,
        )
        for row in rows
    ]
    return Report("documents").of(send(channel, outgoing, "documents"))


def ask(stub: Any, collection: str, question: str, limit: int = DEPTH, **more: Any) -> Asked:
    """Ask one question."""
    request = rag_pb2.RetrieveRequest(collection=collection, question=question, limit=limit, **more)
    started = time.perf_counter()
    reply = stub.Retrieve(request, timeout=60)
    seconds = {stage: getattr(reply.timings, stage) for stage in STAGES[:-1]}
    seconds["total"] = time.perf_counter() - started
    documents = list(dict.fromkeys(passage.document_id for passage in reply.passages))
    return Asked(documents, reply.HasField("refusal"), seconds)


def measure(
    stub: Any,
    collection: str,
    queries: Sequence[dict[str, Any]],
    judged: Judgements,
    *,
    rerank: bool = False,
) -> Figures:
    """Ask every judged question, and score what comes back."""
    figures = Figures()
    for row in tqdm(
        [one for one in queries if one["id"] in judged], desc="questions", unit="", disable=None
    ):
        asked, relevant = ask(stub, collection, row["text"], rerank=rerank), judged[row["id"]]
        figures.asked.append(asked)
        figures.answerable_refused += asked.refused
        figures.ndcg.append(ndcg(asked.documents, relevant))
        figures.recall.append(len(relevant.keys() & asked.documents[:DEPTH]) / len(relevant))
        ranks = [at for at, key in enumerate(asked.documents, 1) if key in relevant]
        figures.reciprocal.append(1 / ranks[0] if ranks else 0.0)
    return figures


def measure_refusals(
    stub: Any, collection: str, questions: Sequence[str], figures: Figures
) -> None:
    """Ask questions that the corpus does not answer."""
    for question in tqdm(questions, desc="unanswerable", unit="", disable=None):
        figures.unanswerable_refused += ask(stub, collection, question).refused
        figures.unanswerable += 1


def calibrate(
    stub: Any, collection: str, answerable: Sequence[str], unanswerable: Sequence[str]
) -> rag_pb2.CalibrateRefusalsResponse:
    """Teach the stack when to refuse."""
    labelled = [
        rag_pb2.LabelledQuestion(question=question, answerable=known)
        for known, questions in ((True, answerable), (False, unanswerable))
        for question in questions
    ]
    request = rag_pb2.CalibrateRefusalsRequest(collection=collection, questions=labelled)
    reply: rag_pb2.CalibrateRefusalsResponse = stub.CalibrateRefusals(request, timeout=600)
    return reply


def ndcg(found: Sequence[str], relevant: dict[str, float], depth: int = 10) -> float:
    """Return the discounted cumulative gain of the first documents, of the best there can be."""
    gain = sum(relevant.get(key, 0) / math.log2(at + 2) for at, key in enumerate(found[:depth]))
    best = sorted(relevant.values(), reverse=True)[:depth]
    return gain / sum(value / math.log2(at + 2) for at, value in enumerate(best))


def draw(figures: Figures, file: Path) -> None:
    """Write a picture: how high the first relevant document ranks, and where the time goes."""
    import matplotlib  # noqa: PLC0415 - slow to import, and not needed by other commands

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    picture, (quality, time_spent) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    quality.hist(figures.ndcg, bins=20, range=(0, 1), color="tab:blue")
    quality.set(title=f"nDCG@10, mean {figures.mean('ndcg'):.3f}", xlabel="nDCG@10")
    quality.set_ylabel("questions")
    stages = figures.stages()
    times = [[one.seconds[stage] * 1000 for one in figures.asked] for stage in stages]
    time_spent.boxplot(times, tick_labels=stages, showfliers=False)
    time_spent.set(title="Where the time goes", ylabel="ms")
    picture.savefig(file, dpi=120)
    pyplot.close(picture)


def stub_of(channel: grpc.Channel) -> rag_pb2_grpc.RagServiceStub:
    """Return the service to measure."""
    return rag_pb2_grpc.RagServiceStub(channel)
