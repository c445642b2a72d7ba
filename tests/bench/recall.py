"""Measures recall@10 of every metric and engine, with and without filters, on three real datasets.

The vectors come from all-MiniLM-L6-v2. For IP and L2 their norms are log-uniform from .5 to 2.
Hits that are as near as the tenth one count as found.
"""

import argparse
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from tests.bench.hybrid import embed
from tests.conftest import data_folder
from tests.redis_server import RedisServer
from tests.stack import Stack

BATCH, QUERIES, K = 200, 500, 10
METRICS = {
    "COSINE": search_pb2.METRIC_COSINE,
    "IP": search_pb2.METRIC_IP,
    "L2": search_pb2.METRIC_L2,
}
SELECTIVITIES = (0.5, 0.05, 0.005, 0.0005)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", help="use this Redis")
    parser.add_argument("--engine", default="unspecified", help="query_engine or vector_sets")
    parser.add_argument("--metric", choices=list(METRICS), help="measure this one only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = None if options.redis else RedisServer(Path(folder))
        stack = Stack(options.redis or server.url, f"bench-recall-{time.time()}:")  # type: ignore[union-attr]
        metrics = [options.metric] if options.metric else list(METRICS)
        measure(stack, search_pb2.Engine.Value(f"ENGINE_{options.engine.upper()}"), metrics)
        stack.close()
        if server:
            server.stop()


def texts() -> list[str]:
    folder = data_folder()
    found: dict[str, None] = {}
    for name, keys in (
        ("question_pairs.jsonl", ("a", "b")),
        ("banking77.jsonl", ("text",)),
        ("scifact/corpus.jsonl", ("title", "text")),
        ("scifact/queries.jsonl", ("text",)),
    ):
        for line in (folder / name).read_text().splitlines():
            row = json.loads(line)
            found |= dict.fromkeys(
                [" ".join(row[key] for key in keys)]
                if "title" in keys
                else [row[key] for key in keys]
            )
    return list(found)


def embeddings(stack: Stack, all_texts: list[str]) -> Any:
    """Embed the texts, or read the embeddings of an earlier run."""
    digest = hashlib.sha256("\0".join(all_texts).encode()).hexdigest()[:16]
    file = Path(f".memetwin/bench/{digest}.npy")
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        order = sorted(range(len(all_texts)), key=lambda at: len(all_texts[at]))
        rows = np.empty((len(all_texts), 384), "<f4")
        for vector, at in zip(embed(stack, [all_texts[at] for at in order]), order, strict=True):
            rows[at] = np.frombuffer(vector, "<f4")
        np.save(file, rows)
    return np.load(file)


def measure(stack: Stack, engine: Any, metrics: list[str]) -> None:
    all_texts = texts()
    rows = embeddings(stack, all_texts)
    random = np.random.default_rng(0)
    scaled = rows * np.exp(random.uniform(np.log(0.5), np.log(2), (len(rows), 1)))
    shares = random.uniform(size=len(rows))
    query_rows = random.choice(len(rows), QUERIES, replace=False)
    print(f"{len(rows)} distinct texts, {QUERIES} queries\n")
    names = [f"{100 * selectivity:g} % pass" for selectivity in SELECTIVITIES]
    print(
        "| | engine | HNSW at its default | exact | "
        + " | ".join(names)
        + " | results short of hits |"
    )
    print("|---|---|---|---|" + "---|" * (len(SELECTIVITIES) + 1))
    stub = search_pb2_grpc.SearchServiceStub(stack.search)
    for name in metrics:
        metric = METRICS[name]
        vectors = rows if name == "COSINE" else scaled.astype("<f4")
        engine_name = load(stub, name, metric, vectors, shares, engine)
        found, short = [], 0
        for options, selectivity in [
            ({}, 1.0),
            ({"exact": True}, 1.0),
            *(({}, selectivity) for selectivity in SELECTIVITIES),
        ]:
            recall, missing = ask(stub, name, vectors, query_rows, shares, selectivity, **options)
            found.append(recall)
            short += missing
        cells = " | ".join(f"{one:.4f}" for one in found)
        print(f"| {name} | {engine_name} | {cells} | {short} |", flush=True)
        stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name=name), timeout=300)


def load(stub: Any, name: str, metric: Any, rows: Any, shares: Any, engine: Any) -> str:
    field = search_pb2.Field(name="share", type=search_pb2.FIELD_TYPE_NUMBER)
    collection = search_pb2.Collection(
        name=name, dimensions=384, metric=metric, engine=engine, fields=[field]
    )
    stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=collection))
    for first in range(0, len(rows), BATCH):
        documents = [
            search_pb2.Document(
                id=str(n),
                vector=rows[n].tobytes(),
                fields={"share": search_pb2.FieldValue(number=shares[n])},
            )
            for n in range(first, min(first + BATCH, len(rows)))
        ]
        stub.UpsertDocuments(
            search_pb2.UpsertDocumentsRequest(collection=name, documents=documents), timeout=300
        )
    while True:
        got = stub.GetCollection(search_pb2.GetCollectionRequest(name=name), timeout=60)
        if got.collection.health.ready:
            kind = search_pb2.Engine.Name(got.collection.engine)
            return kind.removeprefix("ENGINE_").replace("_", " ").lower()
        time.sleep(1)


def ask(
    stub: Any,
    name: str,
    rows: Any,
    query_rows: Any,
    shares: Any,
    selectivity: float,
    **options: Any,
) -> tuple[float, int]:
    """Return recall@10, and the number of results with fewer hits than K."""
    condition = None
    if selectivity < 1:
        number = search_pb2.NumberCondition(
            field="share", op=search_pb2.NUMBER_OPERATOR_LT, values=[selectivity]
        )
        condition = search_pb2.Filter(number=number)
    allowed = np.flatnonzero(shares < selectivity)
    inside, found, short = rows[allowed].astype(float), 0, 0
    place = {int(at): number for number, at in enumerate(allowed)}
    for first in range(0, len(query_rows), 10):
        batch = query_rows[first : first + 10]
        queries = [
            search_pb2.Query(
                vector=rows[at].tobytes(),
                limit=K,
                return_no_fields=True,
                filter=condition,
                **options,
            )
            for at in batch
        ]
        reply = stub.Search(search_pb2.SearchRequest(collection=name, queries=queries), timeout=300)
        for at, result in zip(batch, reply.results, strict=True):
            truth = similarities(name, inside, rows[at].astype(float))
            tenth = np.sort(truth)[-K]
            found += sum(truth[place[int(hit.id)]] >= tenth - 1e-5 for hit in result.hits)
            short += len(result.hits) < K
    return found / (K * len(query_rows)), short


def similarities(name: str, rows: Any, query: Any) -> Any:
    if name == "L2":
        return -np.linalg.norm(rows - query, axis=1)
    if name == "IP":
        return rows @ query
    return rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)


if __name__ == "__main__":
    main()
