"""Random operations of several tenants on the same names: no reply contains another's data."""

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from memetwin.gateway.v1 import cache_pb2, chat_pb2, rag_pb2, twin_pb2
from memetwin.search.v1 import search_pb2
from tests.attacks.world import PICTURES, RANDOM, World
from tests.documents import _parts as parts

SEED = 17
THREADS = 8
TOPICS = "harbour glacier orchard lantern compass violin meadow furnace".split()
NAMES = ("red", "blue")
# What the interpreter may raise in a tenant's reply: its own marker and no other.
MARKERS = {key: f"owned-by-{number}-7c1e" for number, key in enumerate(RANDOM)}
Operation = Callable[["Caller"], list[tuple[str, list[Any]]]]


class Caller:
    """A tenant that makes random calls, with names that all tenants use.

    Attributes:
        seen: ids and page tokens that any tenant has seen; all callers try them.
    """

    def __init__(self, world: World, key: str, seed: int, seen: list[str]) -> None:
        self.world, self.key, self.seen = world, key, seen
        self.rng = random.Random(seed)
        self.codes: Counter[str] = Counter()
        self.leaks: list[str] = []

    @property
    def marker(self) -> str:
        return MARKERS[self.key]

    def name(self) -> str:
        return self.rng.choice(NAMES)

    def prompt(self) -> str:
        return f"What is in the {self.rng.choice(TOPICS)} of the {self.name()} island?"

    def id(self, *own: str) -> str:
        return self.rng.choice([*self.seen[-200:], *own, "missing"])

    def scope(self) -> cache_pb2.Scope:
        return cache_pb2.Scope(user=self.rng.choice(["", "ann"]), namespace=self.name())

    def picture(self) -> bytes:
        return self.rng.choice(PICTURES[:4]).read_bytes()

    def run(self, operations: int) -> None:
        for _ in range(operations):
            for rpc, requests in self.rng.choice(OPERATIONS)(self):
                self._call(rpc, requests)

    def _call(self, rpc: str, requests: list[Any]) -> None:
        reply = self.world.call(rpc, self.key, *requests)
        self.codes[f"{rpc} {reply.code.name}"] += 1
        assert reply.code is not grpc.StatusCode.INTERNAL, reply
        for key, marker in MARKERS.items():
            if key != self.key and marker.encode() in reply.content:
                self.leaks.append(f"{rpc} {requests} -> {reply}"[:3000])
        for message in reply.messages:
            for field in ("entry", "twin"):
                if hasattr(message, field) and getattr(message, field).id:
                    self.seen.append(getattr(message, field).id)
            if getattr(message, "next_page_token", ""):
                self.seen.append(message.next_page_token)


def cache_write(caller: Caller) -> list[tuple[str, list[Any]]]:
    response, cites = f"{caller.marker} {caller.rng.random()}", [f"documents/{caller.name()}"]
    create = cache_pb2.CreateEntryRequest(
        scope=caller.scope(), prompt=caller.prompt(), response=response, cites=cites
    )
    create.request_id = caller.rng.choice(["", *map(str, range(20))])
    entry = cache_pb2.CuratedEntry(prompt=caller.prompt(), response=response)
    load = cache_pb2.LoadEntriesRequest(scope=caller.scope(), entries=[entry])
    found: list[tuple[str, list[Any]]] = [("CacheService/CreateEntry", [create])]
    if caller.rng.random() < 0.1:
        found.append(("CacheService/LoadEntries", [load]))
    return found


def cache_read(caller: Caller) -> list[tuple[str, list[Any]]]:
    scope = caller.scope()
    lookup = cache_pb2.LookupEntryRequest(scope=scope, prompt=caller.prompt(), min_similarity=0.5)
    get = cache_pb2.GetEntryRequest(scope=scope, id=caller.id())
    entries = cache_pb2.ListEntriesRequest(scope=scope, page_size=3, page_token=caller.id(""))
    stats = cache_pb2.GetStatsRequest(scope=scope)
    purges = cache_pb2.ListPurgesRequest(scope=scope, page_size=3)
    return [
        ("CacheService/LookupEntry", [lookup]),
        ("CacheService/GetEntry", [get]),
        ("CacheService/ListEntries", [entries]),
        ("CacheService/GetStats", [stats]),
        ("CacheService/ListPurges", [purges]),
    ]


def cache_delete(caller: Caller) -> list[tuple[str, list[Any]]]:
    delete = cache_pb2.DeleteEntryRequest(scope=caller.scope(), id=caller.id())
    purge = cache_pb2.PurgeEntriesRequest(scope=caller.scope(), force=True)
    purge.filter.cites.append(f"documents/{caller.name()}")
    wrong = cache_pb2.ReportFeedbackRequest(scope=caller.scope(), id=caller.id())
    chosen: list[tuple[str, list[Any]]] = [
        ("CacheService/DeleteEntry", [delete]),
        ("CacheService/PurgeEntries", [purge]),
        ("CacheService/ReportFeedback", [wrong]),
    ]
    return [caller.rng.choice(chosen)]


def chat(caller: Caller) -> list[tuple[str, list[Any]]]:
    message = cache_pb2.Message(role="user", content=caller.prompt())
    one = chat_pb2.Chat(messages=[message], scope=caller.scope())
    return [("ChatService/Complete", [chat_pb2.CompleteRequest(chat=one)])]


def ingest(caller: Caller) -> list[tuple[str, list[Any]]]:
    document = {
        "id": f"{caller.rng.choice(TOPICS)}.md",
        "title": caller.marker,
        "content": f"{caller.prompt()} It belongs to {caller.marker}.",
    }
    return [("RagService/IngestDocuments", list(parts(caller.name(), [document])))]


def documents(caller: Caller) -> list[tuple[str, list[Any]]]:
    name, document = caller.name(), f"{caller.rng.choice(TOPICS)}.md"
    listed = rag_pb2.ListDocumentsRequest(
        collection=name, page_size=2, page_token=caller.id("", document)
    )
    found: list[tuple[str, list[Any]]] = [
        ("RagService/GetDocument", [rag_pb2.GetDocumentRequest(collection=name, id=document)]),
        ("RagService/ListDocuments", [listed]),
    ]
    if caller.rng.random() < 0.2:
        delete = rag_pb2.DeleteDocumentRequest(collection=name, id=document)
        found.append(("RagService/DeleteDocument", [delete]))
    return found


def ask(caller: Caller) -> list[tuple[str, list[Any]]]:
    retrieve = rag_pb2.RetrieveRequest(
        collection=caller.name(), question=caller.prompt(), additional_collections=[caller.name()]
    )
    request = rag_pb2.AskRequest(
        collection=caller.name(), question=caller.prompt(), scope=caller.scope()
    )
    return [("RagService/Retrieve", [retrieve]), ("RagService/Ask", [request])]


def twins(caller: Caller) -> list[tuple[str, list[Any]]]:
    twin = f"{caller.name()}-cat"
    add = twin_pb2.AddTwinRequest(id=twin, title=caller.marker, image=caller.picture())
    found: list[tuple[str, list[Any]]] = [
        ("TwinService/AddTwin", [add]),
        ("TwinService/FindTwin", [twin_pb2.FindTwinRequest(image=caller.picture(), limit=10)]),
        ("TwinService/FindTwin", [twin_pb2.FindTwinRequest(text=caller.marker, limit=10)]),
        ("TwinService/GetPicture", [twin_pb2.GetPictureRequest(id=caller.id(twin))]),
        ("TwinService/ListTwins", [twin_pb2.ListTwinsRequest(page_size=1)]),
        ("TwinService/DeleteTwin", [twin_pb2.DeleteTwinRequest(id=caller.id(twin))]),
    ]
    return caller.rng.sample(found, 2)


def search(caller: Caller) -> list[tuple[str, list[Any]]]:
    name, document = caller.name(), caller.rng.choice(TOPICS)
    collection = search_pb2.Collection(
        name=name, dimensions=2, metric=search_pb2.METRIC_COSINE, index_text=True
    )
    vector = bytes([0, 0, 128, 63, 0, 0, 0, 64])
    upserted = search_pb2.Document(
        id=document, vector=vector, text=f"{document} {caller.marker}", payload=b"x"
    )
    queries = [
        search_pb2.Query(vector=vector, limit=10, return_text=True),
        search_pb2.Query(text=document, limit=10, return_text=True),
        search_pb2.Query(document_id=document, limit=10, return_text=True),
    ]
    found: list[tuple[str, list[Any]]] = [
        (
            "SearchService/CreateCollection",
            [search_pb2.CreateCollectionRequest(collection=collection)],
        ),
        (
            "SearchService/UpsertDocuments",
            [search_pb2.UpsertDocumentsRequest(collection=name, documents=[upserted])],
        ),
        ("SearchService/Search", [search_pb2.SearchRequest(collection=name, queries=queries)]),
        (
            "SearchService/GetDocuments",
            [search_pb2.GetDocumentsRequest(collection=name, ids=[document])],
        ),
        ("SearchService/ListCollections", [search_pb2.ListCollectionsRequest()]),
    ]
    if caller.rng.random() < 0.02:
        found.append(
            ("SearchService/DeleteCollection", [search_pb2.DeleteCollectionRequest(name=name)])
        )
    return caller.rng.sample(found, 3)


OPERATIONS: list[Operation] = [
    *(cache_write, cache_read, cache_read, cache_delete, chat),
    *(ingest, documents, ask, twins, search),
]


@pytest.mark.parametrize(
    "operations", [2_000, pytest.param(100_000, marks=pytest.mark.long)], ids=["short", "long"]
)
def test_no_tenant_receives_anothers_data(world: World, operations: int) -> None:
    seen: list[str] = []
    callers = [
        Caller(world, RANDOM[number % len(RANDOM)], SEED + number, seen)
        for number in range(THREADS)
    ]
    rounds = operations // THREADS // 3  # an operation is about three calls
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(one.run, rounds) for one in callers]:
            done.result()
    codes = sum((one.codes for one in callers), Counter[str]())
    print(f"{codes.total()} calls:", dict(sorted(codes.items())))
    assert not [leak for one in callers for leak in one.leaks]
    succeeded = {name.split()[0] for name in codes if name.endswith(" OK")}
    assert {"CacheService/LookupEntry", "RagService/Ask", "TwinService/FindTwin"} <= succeeded
