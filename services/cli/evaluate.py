"""``memetwin evaluate``: measures retrieval and refusals on a corpus.

The files have the format of BEIR (Thakur et al., NeurIPS 2021): the lines of ``corpus.jsonl`` and
``queries.jsonl`` have ``_id`` or ``id`` and ``text``; the columns of ``qrels.tsv`` are query,
document and relevance.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tqdm import tqdm

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc
from services.cli.ingestion import Upload, send
from services.cli.metrics import DEPTH, STAGES, Metrics, Retrieved, draw, ndcg
from services.cli.reports import Report

Judgements = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Task:
    """The files and options of an evaluation."""

    corpus: Path
    queries: Path
    qrels: Path
    unanswerable: Path | None = None
    collection: str | None = None
    calibrate: bool = False
    rerank: bool = False


def run(channel: grpc.Channel, task: Task, echo: Callable[[str], Any], picture: Path) -> Metrics:
    """Ingest the corpus, calibrate if requested, measure, print the metrics and draw them."""
    stub = stub_of(channel)
    name = task.collection or collection_of(task.corpus)
    queries, judged = rows_of(task.queries), judgements(task.qrels)
    unanswerable = [row["text"] for row in rows_of(task.unanswerable)] if task.unanswerable else []
    echo(ingest(channel, name, rows_of(task.corpus)).summary())
    if task.calibrate:
        known = [row["text"] for row in queries if row["id"] in judged]
        echo(describe_calibration(calibrate(stub, name, known, unanswerable)))
    metrics = measure(stub, name, queries, judged, rerank=task.rerank)
    measure_refusals(stub, name, unanswerable, metrics)
    echo(metrics.table())
    draw(metrics, picture)
    echo(f"The charts are in {picture}.")
    return metrics


def describe_calibration(calibration: rag_pb2.CalibrateRefusalsResponse) -> str:
    """Return the result of a calibration as one line."""
    return (
        f"Calibrated on one half of the questions: min_score is {calibration.min_score:.3f}."
        f" On the other half ({calibration.measured} questions) it refuses"
        f" {calibration.answerable_refused:.1%} of the answerable and"
        f" {calibration.unanswerable_refused:.1%} of the unanswerable questions."
    )


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Read a file of JSON objects, one per line. ``_id`` is renamed to ``id``."""
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]
    return [row | {"id": str(row.get("_id", row.get("id", "")))} for row in rows]


def judgements(file: Path) -> Judgements:
    """Read relevance judgements by query and document. A header line is skipped."""
    judged: Judgements = {}
    for line in file.read_text("utf-8").splitlines():
        query, document, relevance = line.split("\t")
        if relevance.lstrip("-").replace(".", "", 1).isdecimal() and float(relevance) > 0:
            judged.setdefault(query, {})[document] = float(relevance)
    return judged


def collection_of(corpus: Path) -> str:
    """Return the collection of a corpus. Its name is derived from the content of the file."""
    return f"evaluate-{hashlib.sha256(corpus.read_bytes()).hexdigest()[:12]}"


def ingest(channel: grpc.Channel, collection: str, rows: Sequence[dict[str, Any]]) -> Report:
    """Ingest a corpus. Documents that have not changed are skipped."""
    uploads = [
        Upload(
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
    return Report("documents").add(send(channel, uploads, "documents"))


def retrieve(
    stub: Any, collection: str, question: str, limit: int = DEPTH, **more: Any
) -> Retrieved:
    """Retrieve the passages for one question."""
    request = rag_pb2.RetrieveRequest(collection=collection, question=question, limit=limit, **more)
    started = time.perf_counter()
    reply = stub.Retrieve(request, timeout=60)
    seconds = {stage: getattr(reply.timings, stage) for stage in STAGES[:-1]}
    seconds["total"] = time.perf_counter() - started
    documents = list(dict.fromkeys(passage.document_id for passage in reply.passages))
    return Retrieved(documents, reply.HasField("refusal"), seconds)


def measure(
    stub: Any,
    collection: str,
    queries: Sequence[dict[str, Any]],
    judged: Judgements,
    *,
    rerank: bool = False,
) -> Metrics:
    """Retrieve for every judged question, and score the results."""
    metrics = Metrics()
    for row in tqdm(
        [one for one in queries if one["id"] in judged], desc="questions", unit="", disable=None
    ):
        relevant = judged[row["id"]]
        response = retrieve(stub, collection, row["text"], rerank=rerank)
        metrics.responses.append(response)
        metrics.answerable_refused += response.refused
        metrics.ndcg.append(ndcg(response.documents, relevant))
        metrics.recall.append(len(relevant.keys() & response.documents[:DEPTH]) / len(relevant))
        ranks = [rank for rank, key in enumerate(response.documents, 1) if key in relevant]
        metrics.reciprocal_rank.append(1 / ranks[0] if ranks else 0.0)
    return metrics


def measure_refusals(
    stub: Any, collection: str, questions: Sequence[str], metrics: Metrics
) -> None:
    """Count how many unanswerable questions are refused."""
    for question in tqdm(questions, desc="unanswerable", unit="", disable=None):
        metrics.unanswerable_refused += retrieve(stub, collection, question).refused
        metrics.unanswerable += 1


def calibrate(
    stub: Any, collection: str, answerable: Sequence[str], unanswerable: Sequence[str]
) -> rag_pb2.CalibrateRefusalsResponse:
    """Calibrate the refusals of a collection on labelled questions."""
    labelled = [
        rag_pb2.LabelledQuestion(question=question, answerable=known)
        for known, questions in ((True, answerable), (False, unanswerable))
        for question in questions
    ]
    request = rag_pb2.CalibrateRefusalsRequest(collection=collection, questions=labelled)
    reply: rag_pb2.CalibrateRefusalsResponse = stub.CalibrateRefusals(request, timeout=600)
    return reply


def stub_of(channel: grpc.Channel) -> rag_pb2_grpc.RagServiceStub:
    """Return a stub of the service to measure."""
    return rag_pb2_grpc.RagServiceStub(channel)
