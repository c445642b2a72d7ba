"""DeleteTenantData: nothing of the tenant remains in Redis, and nothing of others changes."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import redis

from memetwin.gateway.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    cache_pb2,
    cache_pb2_grpc,
    rag_pb2,
    rag_pb2_grpc,
    twin_pb2,
    twin_pb2_grpc,
)
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.cli.load import DEMO
from tests.documents import ingest_one
from tests.refusals import refusal
from tests.stack import Stack, wait_until, wait_until_ready

PICTURE = min((DEMO / "pictures").iterdir()).read_bytes()
STUBS: Any = (
    admin_pb2_grpc.AdminServiceStub,
    cache_pb2_grpc.CacheServiceStub,
    rag_pb2_grpc.RagServiceStub,
    twin_pb2_grpc.TwinServiceStub,
    search_pb2_grpc.SearchServiceStub,
)


class Caller:
    """All services of the gateway as the holder of a key sees them."""

    def __init__(self, stack: Stack, key: str) -> None:
        self.marker = f"Marker-of-{key}"
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._stubs = [make(stack.gateway) for make in STUBS]

    def __getattr__(self, name: str) -> Any:
        method = next(getattr(stub, name) for stub in self._stubs if hasattr(stub, name))

        def call(request: Any, timeout: float = 60) -> Any:
            return method(request, timeout=timeout, metadata=self._metadata)

        return call

    def fill(self) -> None:
        """Store data of every kind."""
        for user in ("", "ann"):
            scope = cache_pb2.Scope(user=user, namespace="n")
            entry = self.CreateEntry(
                cache_pb2.CreateEntryRequest(
                    scope=scope, prompt="Who?", response=self.marker, request_id="once"
                )
            ).entry
            self.ReportFeedback(
                cache_pb2.ReportFeedbackRequest(scope=scope, id=entry.id, correct=True)
            )
            self.LookupEntry(cache_pb2.LookupEntryRequest(scope=scope, prompt="Who?"))
        self.PurgeEntries(
            cache_pb2.PurgeEntriesRequest(
                scope=scope, filter=cache_pb2.PurgeFilter(prompt_contains="None"), force=True
            )
        )
        for key in ("a.md", "b.md"):
            ingest_one(self, "notes", key, f"{self.marker} swims in the pond of {key}.")
        self.Ask(rag_pb2.AskRequest(collection="notes", question=f"Where does {self.marker} swim?"))
        questions = [
            rag_pb2.LabelledQuestion(question=f"Where? {number}", answerable=answerable)
            for number in range(20)
            for answerable in (True, False)
        ]
        self.CalibrateRefusals(
            rag_pb2.CalibrateRefusalsRequest(collection="notes", questions=questions)
        )
        self.AddTwin(twin_pb2.AddTwinRequest(title=self.marker, image=PICTURE))
        pages = search_pb2.Collection(name="pages", dimensions=4)
        with contextlib.suppress(grpc.RpcError):  # it exists
            self.CreateCollection(search_pb2.CreateCollectionRequest(collection=pages))
        self.AssignAlias(search_pb2.AssignAliasRequest(alias="leaves", collection="pages"))

    def delete(self, **request: Any) -> Any:
        return self.DeleteTenantData(admin_pb2.DeleteTenantDataRequest(**request))


@pytest.fixture(scope="module")
def stack(redis_url: str, prefix: str, tmp_path_factory: Any) -> Iterator[Stack]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    rows: list[dict[str, Any]] = [
        {
            "sha256": hashlib.sha256(name.encode()).hexdigest(),
            "tenant": name,
            "rights": ["cache", "rag", "twin", "search", "admin"],
        }
        for name in ("acme", "globex")
    ]
    plain = hashlib.sha256(b"plain").hexdigest()
    rows.append({"sha256": plain, "tenant": "acme", "rights": ["cache"]})
    file.write_text(json.dumps(rows))
    stack = Stack(redis_url, f"{prefix}deletion:", api_keys_file=str(file))
    wait_until_ready(stack)
    yield stack
    stack.close()


class Data:
    """What Redis holds."""

    def __init__(self, url: str, prefix: str) -> None:
        self._client: Any = redis.Redis.from_url(url)
        self._prefix = prefix

    def read(self) -> dict[bytes, bytes]:
        """Return the dump of every key, by name."""
        keys = sorted(self._client.scan_iter(f"{self._prefix}*", count=1000))
        dumps = zip(keys, [self._client.dump(key) for key in keys], strict=True)
        return {key: value for key, value in dumps if value}

    def plain(self) -> bytes:
        """Return every name and every string, hash, set and list in one text."""
        parts = []
        for key in self._client.scan_iter(f"{self._prefix}*", count=1000):
            parts.append(key)
            kind = self._client.type(key)
            if kind == b"string":
                parts.append(self._client.get(key) or b"")
            elif kind == b"hash":
                parts += [one for pair in self._client.hgetall(key).items() for one in pair]
            elif kind == b"set":
                parts += self._client.smembers(key)
            elif kind == b"zset":
                parts += self._client.zrange(key, 0, -1)
            elif kind == b"stream":
                parts += [one for _, row in self._client.xrange(key) for one in row.values()]
        return b"\n".join(parts)


@pytest.fixture(scope="module")
def data(redis_url: str, prefix: str) -> Data:
    return Data(redis_url, f"{prefix}deletion:")


@pytest.fixture
def callers(stack: Stack) -> list[Caller]:
    callers = [Caller(stack, name) for name in ("acme", "globex")]
    for caller in callers:
        caller.fill()
    return callers


def of_documents(dumps: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the keys of documents and twins, which nobody but their owner changes."""
    kinds = (b"document", b"text", b"chunks", b"calibration", b"twin", b"epoch")
    return {
        key: value
        for key, value in dumps.items()
        if key.rpartition(b"gateway:")[2].startswith(kinds)
    }


def test_nothing_of_a_tenant_remains(callers: list[Caller], data: Data) -> None:
    acme, globex = callers
    before = data.read()
    counted = acme.delete()
    assert (counted.cache_entries, counted.documents, counted.twins) == (3, 2, 1)
    # Of documents, of pictures by three metrics, of titles, and the tenant's own.
    assert counted.collections == 6
    assert counted.other_keys > 10
    assert of_documents(data.read()) == of_documents(before)
    assert acme.marker.encode() in data.plain()

    deleted = acme.delete(force=True)
    assert deleted == counted
    # Items for followers of an answer in progress expire after a minute.
    left = b"\n".join(
        line for line in data.plain().split(b"\n") if b"singleflight-items" not in line
    )
    assert globex.marker.encode() in left
    again = acme.delete()
    assert again == admin_pb2.DeleteTenantDataResponse()
    mine = {key for key in of_documents(before) if b":{/" not in key} - of_documents(
        data.read()
    ).keys()
    assert mine
    tags = {key.partition(b"{")[2].partition(b"/")[0] for key in mine}
    assert len(tags) == 1
    assert tags.pop() not in data.plain()
    untouched = {key: value for key, value in of_documents(before).items() if key not in mine}
    assert of_documents(data.read()) == untouched
    names = search_pb2.ListCollectionsRequest()
    assert not acme.ListCollections(names).collections
    assert [one.name for one in globex.ListCollections(names).collections] == ["pages"]
    found = globex.Retrieve(rag_pb2.RetrieveRequest(collection="notes", question="Who swims?"))
    assert len(found.passages) == 2
    assert globex.delete().cache_entries == 3
    get = rag_pb2.GetDocumentRequest(collection="notes", id="a.md")
    assert refusal(acme.GetDocument, get)[1] == "DOCUMENT_NOT_FOUND"
    acme.fill()  # the tenant can begin again
    assert acme.delete().documents == 2


def test_the_entries_of_a_user_are_deleted(callers: list[Caller]) -> None:
    acme, globex = callers
    before = acme.delete()
    counted = acme.delete(user="ann")
    assert (counted.cache_entries, counted.documents, counted.collections) == (1, 0, 0)
    assert counted.other_keys > 0
    assert acme.delete(user="ann", force=True).cache_entries == 1
    assert acme.delete(user="ann").cache_entries == 0
    left = acme.delete()
    assert (left.cache_entries, left.documents) == (before.cache_entries - 1, 2)
    assert globex.delete(user="ann").cache_entries == 1
    scope = cache_pb2.Scope(user="ann", namespace="n")
    lookup = cache_pb2.LookupEntryRequest(scope=scope, prompt="Who?", min_similarity=-1)
    wait_until(
        lambda: acme.LookupEntry(lookup).decision.kind == cache_pb2.DECISION_KIND_MISS, seconds=10
    )


def test_only_the_own_tenant_and_only_with_the_right(stack: Stack, callers: list[Caller]) -> None:
    request = admin_pb2.DeleteTenantDataRequest(tenant="globex")
    denied = grpc.StatusCode.PERMISSION_DENIED
    assert refusal(callers[0].DeleteTenantData, request)[:2] == (denied, "OTHER_TENANT")
    plain = Caller(stack, "plain")
    assert refusal(plain.DeleteTenantData, admin_pb2.DeleteTenantDataRequest())[:2] == (
        denied,
        "RIGHT_MISSING",
    )
