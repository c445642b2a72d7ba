"""Answers from SciFact, end to end: retrieval, refusals, and what it costs beside its parts."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import redis

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.cli import evaluate
from tests.bench.monitoring import replayed, watched
from tests.conftest import data_folder
from tests.redis_server import RedisServer
from tests.stack import Stack, wait_until

BANKING = 500
SPEED = 500


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        stack = Stack(server.url, "bench-rag:")
        client = redis.Redis.from_url(server.url)
        measure(stack, client, data_folder())
        stack.close()
        server.stop()


def measure(stack: Stack, client: Any, data: Path) -> None:
    embedder = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)
    wait_until(lambda: embedder.GetModel(embedder_pb2.GetModelRequest()).model.ready)
    stub, name = evaluate.stub_of(stack.gateway), "scifact"
    corpus = evaluate.rows_of(data / "scifact" / "corpus.jsonl")
    queries = evaluate.rows_of(data / "scifact" / "queries.jsonl")
    judged = evaluate.judgements(data / "scifact" / "qrels.tsv")
    speed(stack, corpus[:SPEED])
    print(evaluate.ingest(stack.gateway, name, corpus).sentence() + "\n")
    banking = [json.loads(line)["text"] for line in (data / "banking77.jsonl").open()][:BANKING]
    learnt = evaluate.calibrate(stub, name, [row["text"] for row in queries], banking)
    print(evaluate.told(learnt) + "\n")
    figures = evaluate.measure(stub, name, queries, judged)
    evaluate.measure_refusals(stub, name, banking, figures)
    print(figures.table() + "\n")
    costs(stack, client, [row["text"] for row in queries[:100]])


def costs(stack: Stack, client: Any, questions: list[str]) -> None:
    """Compare Retrieve with the embedder alone, and with the commands it sends to Redis."""
    stub = evaluate.stub_of(stack.gateway)
    embedder = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)
    retrieve, embed, raw = [], [], []
    for question in questions:
        with watched(client) as commands:
            evaluate.ask(stub, "scifact", question, limit=8)
        raw.append(replayed(client, commands))
        asked = embedder_pb2.EmbedRequest(
            inputs=[embedder_pb2.Input(text=question)], task=embedder_pb2.TASK_QUERY
        )
        embed.append(timed(lambda asked=asked: embedder.Embed(asked)))
        retrieve.append(timed(lambda: evaluate.ask(stub, "scifact", question, limit=8)))  # noqa: B023
    whole, model, commands_ = (sorted(times)[len(times) // 2] for times in (retrieve, embed, raw))
    print("| p50 ms | |\n|---|---|")
    print(f"| Retrieve, 8 passages | {whole * 1000:.1f} |")
    print(f"| the embedder alone | {model * 1000:.1f} |")
    print(f"| its Redis commands alone | {commands_ * 1000:.1f} |")
    print(f"| (Retrieve − embedder) / Redis | {(whole - model) / commands_:.2f} |")


def speed(stack: Stack, corpus: list[Any]) -> None:
    """Compare an ingest with embedding the same chunks alone, in large batches."""
    report = timed(lambda: evaluate.ingest(stack.gateway, "speed", corpus))
    texts = chunks(stack, "speed")
    embedder = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)

    def embed() -> None:
        for first in range(0, len(texts), 256):
            inputs = [embedder_pb2.Input(text=text) for text in texts[first : first + 256]]
            bulk = embedder_pb2.PRIORITY_BULK
            embedder.Embed(embedder_pb2.EmbedRequest(inputs=inputs, priority=bulk), timeout=600)

    alone = timed(embed)
    print("| chunks a second | |\n|---|---|")
    print(f"| ingest of {len(corpus)} documents, {len(texts)} chunks | {len(texts) / report:.0f} |")
    print(f"| the embedder alone | {len(texts) / alone:.0f} |")
    print(f"| ratio | {alone / report:.2f} |\n")


def chunks(stack: Stack, name: str) -> list[str]:
    stub, texts, token = search_pb2_grpc.SearchServiceStub(stack.search), [], ""
    while True:
        request = search_pb2.ListDocumentsRequest(
            collection=f"documents-{name}", page_size=1000, page_token=token
        )
        reply = stub.ListDocuments(request, timeout=60)
        texts += [one.text for one in reply.documents]
        token = reply.next_page_token
        if not token:
            return texts


def timed(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
