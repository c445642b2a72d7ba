"""Measures RAG on SciFact: retrieval, refusals, and how much time it adds to its parts."""

import argparse
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
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

UNANSWERABLE_QUESTIONS = 500
SPEED_DOCUMENTS = 500


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--runtime", default="auto", help="the embedder's runtime; exact means float32"
    )
    parser.add_argument("--speed", action="store_true", help="measure only the speed of an ingest")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        settings = {"runtime": arguments.runtime}
        with closing(Stack(server.url, "bench-rag:", embedder=settings)) as stack:
            embedder = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)
            wait_until(lambda: embedder.GetModel(embedder_pb2.GetModelRequest()).model.ready)
            model = embedder.GetModel(embedder_pb2.GetModelRequest()).model
            print(f"{model.runtime} {model.dtype}\n")
            corpus = evaluate.rows_of(data_folder() / "scifact" / "corpus.jsonl")
            measure_speed(stack, corpus[:SPEED_DOCUMENTS])
            if not arguments.speed:
                measure(stack, redis.Redis.from_url(server.url), data_folder(), corpus)
        server.stop()


def measure(stack: Stack, client: Any, data: Path, corpus: list[Any]) -> None:
    stub, name = evaluate.stub_of(stack.gateway), "scifact"
    queries = evaluate.rows_of(data / "scifact" / "queries.jsonl")
    judged = evaluate.judgements(data / "scifact" / "qrels.tsv")
    print(evaluate.ingest(stack.gateway, name, corpus).summary() + "\n")
    banking = [json.loads(line)["text"] for line in (data / "banking77.jsonl").open()][
        :UNANSWERABLE_QUESTIONS
    ]
    calibration = evaluate.calibrate(stub, name, [row["text"] for row in queries], banking)
    print(evaluate.describe_calibration(calibration) + "\n")
    figures = evaluate.measure(stub, name, queries, judged)
    evaluate.measure_refusals(stub, name, banking, figures)
    print(figures.table() + "\n")
    measure_costs(stack, client, [row["text"] for row in queries[:100]])


def measure_costs(stack: Stack, client: Any, questions: list[str]) -> None:
    """Compare Retrieve with only its call to the embedder, and with only its Redis commands."""
    stub = evaluate.stub_of(stack.gateway)
    embedder = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)
    retrieve, embed, raw = [], [], []
    for question in questions:
        with watched(client) as commands:
            evaluate.retrieve(stub, "scifact", question, limit=8)
        raw.append(replayed(client, commands))
        request = embedder_pb2.EmbedRequest(
            inputs=[embedder_pb2.Input(text=question)], task=embedder_pb2.TASK_QUERY
        )
        embed.append(timed(lambda request=request: embedder.Embed(request)))
        retrieve.append(timed(lambda: evaluate.retrieve(stub, "scifact", question, limit=8)))  # noqa: B023
    whole, model, commands_ = (sorted(times)[len(times) // 2] for times in (retrieve, embed, raw))
    print("| p50 ms | |\n|---|---|")
    print(f"| Retrieve, 8 passages | {whole * 1000:.1f} |")
    print(f"| the embedder alone | {model * 1000:.1f} |")
    print(f"| only its Redis commands | {commands_ * 1000:.1f} |")
    print(f"| (Retrieve − embedder) / Redis | {(whole - model) / commands_:.2f} |")


def measure_speed(stack: Stack, corpus: list[Any]) -> None:
    """Compare an ingest with only embedding the same chunks, in two concurrent large batches."""
    ingest_seconds = timed(lambda: evaluate.ingest(stack.gateway, "speed", corpus))
    texts = chunks(stack, "speed")
    embedder = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)

    def embed(first: int) -> None:
        inputs = [embedder_pb2.Input(text=text) for text in texts[first : first + 256]]
        bulk = embedder_pb2.PRIORITY_BULK
        embedder.Embed(embedder_pb2.EmbedRequest(inputs=inputs, priority=bulk), timeout=600)

    def embed_all() -> None:
        with ThreadPoolExecutor(2) as pool:  # so that the embedder always has the next batch
            list(pool.map(embed, range(0, len(texts), 256)))

    alone = timed(embed_all)
    print("| chunks per second | |\n|---|---|")
    print(
        f"| ingest of {len(corpus)} documents, {len(texts)} chunks | {len(texts) / ingest_seconds:.0f} |"
    )
    print(f"| the embedder alone | {len(texts) / alone:.0f} |")
    print(f"| ratio | {alone / ingest_seconds:.2f} |\n")


def chunks(stack: Stack, name: str) -> list[str]:
    """Return the text of each chunk that was embedded: the title and its own text."""
    stub, texts, token = search_pb2_grpc.SearchServiceStub(stack.search), [], ""
    while True:
        request = search_pb2.ListDocumentsRequest(
            collection=f"documents-{name}", page_size=1000, page_token=token
        )
        reply = stub.ListDocuments(request, timeout=60)
        for one in reply.documents:
            place = json.loads(one.payload)
            own = one.text[place["lead"] :][: place["end"] - place["start"]]
            texts.append(f"{place['title']}\n{own}")
        token = reply.next_page_token
        if not token:
            return texts


def timed(call: Any) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
