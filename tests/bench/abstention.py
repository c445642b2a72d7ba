"""Measures refusals of questions on the subject of SciFact that its documents do not answer.

The documents of some claims are left out. Other claims get another number, another entity or
another predicate. ``CalibrateRefusals`` learns from some claims, and the others are measured.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from memetwin.gateway.v1 import rag_pb2
from services.cli import evaluate
from tests.bench.unanswerable import generate
from tests.conftest import data_folder
from tests.redis_server import RedisServer
from tests.stack import Stack, wait_until

REMOVED = 100  # claims whose documents are left out
LEARNT = 0.5  # share of the claims that the calibration learns from
BANKING = 100
NAME = "scifact"

Kinds = dict[str, list[str]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, help="how many other documents to ingest")
    arguments = parser.parse_args()
    folder = data_folder() / "scifact"
    queries = evaluate.rows_of(folder / "queries.jsonl")
    judged = evaluate.judgements(folder / "qrels.tsv")
    claims = {row["text"]: set(judged[row["id"]]) for row in queries if row["id"] in judged}
    texts = random.Random(7).sample(list(claims), len(claims))
    gone = set().union(*(claims[text] for text in texts[:REMOVED]))
    removed = [text for text in texts if claims[text] <= gone]
    there = [text for text in texts if not claims[text] & gone]
    wanted = set().union(*(claims[text] for text in there))
    rows = [row for row in evaluate.rows_of(folder / "corpus.jsonl") if row["id"] not in gone]
    corpus = [row for row in rows if row["id"] in wanted]
    corpus += [row for row in rows if row["id"] not in wanted][: arguments.documents]
    learnt, measured = split(there, removed)
    with tempfile.TemporaryDirectory() as place:
        server = RedisServer(Path(place))
        with closing(Stack(server.url, "bench-abstention:")) as stack:
            embedder = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)
            wait_until(lambda: embedder.GetModel(embedder_pb2.GetModelRequest()).model.ready)
            print(evaluate.ingest(stack.gateway, NAME, corpus).summary() + "\n")
            compare(evaluate.stub_of(stack.gateway), learnt, measured, claims)
        server.stop()


def split(there: Sequence[str], removed: Sequence[str]) -> tuple[Kinds, Kinds]:
    """Return the questions of each kind to learn from, and those to measure, of other claims."""
    parts = []
    for part in (slice(None, round(LEARNT * len(there))), slice(round(LEARNT * len(there)), None)):
        kinds: Kinds = {"answerable": list(there[part]), "document left out": []}
        for kind, _, question in generate(there[part]):
            kinds.setdefault(kind, []).append(question)
        parts.append(kinds)
    half = len(removed) // 2
    parts[0]["document left out"], parts[1]["document left out"] = (
        list(removed[:half]),
        list(removed[half:]),
    )
    lines = (data_folder() / "banking77.jsonl").read_text().splitlines()[:BANKING]
    parts[1]["banking"] = [json.loads(line)["text"] for line in lines]
    return parts[0], parts[1]


def compare(stub: Any, learnt: Kinds, measured: Kinds, claims: dict[str, set[str]]) -> None:
    """Print which questions are refused by the setting and by the calibration."""
    before = {kind: refused(stub, questions) for kind, questions in measured.items()}
    smallest = max(20, min(len(questions) for questions in learnt.values()))
    questions = [
        rag_pb2.LabelledQuestion(question=text, answerable=kind == "answerable")
        for kind, texts in learnt.items()
        for text in (texts if kind == "answerable" else texts[: 3 * smallest])
    ]
    request = rag_pb2.CalibrateRefusalsRequest(collection=NAME, questions=questions)
    report = stub.CalibrateRefusals(request, timeout=900)
    print(f"min_score {report.min_score:.3f}, min_relevance {report.min_relevance:.3f}\n")
    after = {kind: refused(stub, questions) for kind, questions in measured.items()}
    print("| questions | number | refused by the setting | by the calibration |\n|---|---|---|---|")
    for kind, texts in measured.items():
        print(f"| {kind} | {len(texts)} | {share(before[kind])} | {share(after[kind])} |")
    found = [finds(stub, text, claims[text]) for text in measured["answerable"]]
    both = [lost for lost, is_found in zip(after["answerable"], found, strict=True) if is_found]
    print(f"| answerable, document among 8 passages | {len(both)} | | {share(both)} |")


def refused(stub: Any, questions: Sequence[str]) -> list[bool]:
    return [evaluate.retrieve(stub, NAME, text, limit=8).refused for text in questions]


def finds(stub: Any, question: str, documents: set[str]) -> bool:
    found = evaluate.retrieve(stub, NAME, question, limit=8).documents
    return not documents.isdisjoint(found)


def share(refusals: Sequence[bool]) -> str:
    return f"{sum(refusals) / len(refusals):.1%}"


if __name__ == "__main__":
    main()
