"""Measures nDCG@10 on SciFact of text, vector and hybrid queries; no weight is tuned on it."""

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from tests.conftest import data_folder
from tests.redis_server import RedisServer
from tests.stack import Stack, wait_until

BATCH = 256
KINDS = ("words", "vectors", "hybrid, linear", "hybrid, RRF")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", help="use this Redis")
    url = parser.parse_args().redis
    with tempfile.TemporaryDirectory() as folder:
        server = None if url else RedisServer(Path(folder))
        stack = Stack(url or server.url, f"bench-hybrid-{time.time()}:")  # type: ignore[union-attr]
        print("| | " + " | ".join(KINDS) + " |\n|---|" + "---|" * len(KINDS))
        figures = measure(stack, data_folder())
        print("| nDCG@10 | " + " | ".join(f"{figures[kind]:.4f}" for kind in KINDS) + " |")
        stack.close()
        if server:
            server.stop()


def measure(stack: Stack, data: Path, engine: Any = search_pb2.ENGINE_UNSPECIFIED) -> Any:
    """Load SciFact, search for its claims, and return the nDCG@10 of each kind of query."""
    folder = data / "scifact"
    stub = search_pb2_grpc.SearchServiceStub(stack.search)
    corpus = _rows(folder / "corpus.jsonl")
    texts = [f"{row['title']} {row['text']}" for row in corpus]
    collection = search_pb2.Collection(name="scifact", dimensions=384, engine=engine)
    stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=collection))
    vectors = embed(stack, texts)
    for first in range(0, len(corpus), BATCH):
        documents = [
            search_pb2.Document(id=corpus[n]["id"], text=texts[n], vector=vectors[n])
            for n in range(first, min(first + BATCH, len(corpus)))
        ]
        stub.UpsertDocuments(
            search_pb2.UpsertDocumentsRequest(collection="scifact", documents=documents)
        )
    judged: dict[str, set[str]] = {}
    for line in (folder / "qrels.tsv").read_text().splitlines():
        query, document, _ = line.split("\t")
        judged.setdefault(query, set()).add(document)
    queries = [row for row in _rows(folder / "queries.jsonl") if row["id"] in judged]
    query_vectors = embed(stack, [row["text"] for row in queries])
    return {
        kind: sum(
            ndcg([hit.id for hit in result.hits], judged[row["id"]])
            for row, result in zip(queries, _ask(stub, queries, query_vectors, kind), strict=True)
        )
        / len(queries)
        for kind in KINDS
    }


def embed(stack: Stack, texts: list[str]) -> list[bytes]:
    stub = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)
    wait_until(lambda: stub.GetModel(embedder_pb2.GetModelRequest()).model.ready)
    rows: list[bytes] = []
    for first in range(0, len(texts), BATCH):
        inputs = [embedder_pb2.Input(text=text) for text in texts[first : first + BATCH]]
        reply = stub.Embed(embedder_pb2.EmbedRequest(inputs=inputs), timeout=300)
        size = 4 * reply.dimensions
        rows += [reply.vectors[n * size : (n + 1) * size] for n in range(len(inputs))]
    return rows


def ndcg(found: list[str], relevant: set[str]) -> float:
    """Return the discounted cumulative gain of the first ten, relative to the best possible."""
    gain = sum(1 / math.log2(at + 2) for at, key in enumerate(found[:10]) if key in relevant)
    return gain / sum(1 / math.log2(at + 2) for at in range(min(10, len(relevant))))


def _ask(stub: Any, queries: list[Any], vectors: list[bytes], kind: str) -> Any:
    messages = []
    for row, vector in zip(queries, vectors, strict=True):
        query = search_pb2.Query(limit=10, return_no_fields=True)
        if kind == "words":
            query.text = row["text"]
        elif kind == "vectors":
            query.vector = vector
        else:
            query.hybrid.vector, query.hybrid.text = vector, row["text"]
            if kind == "hybrid, RRF":
                query.hybrid.fusion = search_pb2.FUSION_RRF
        messages.append(query)
    request = search_pb2.SearchRequest(collection="scifact", queries=messages)
    return stub.Search(request, timeout=120).results


def _rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()
