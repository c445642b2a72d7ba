"""A stack with two tenants' keys, and everything that one tenant can store in it."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import grpc
import httpx
import redis

from memetwin.embedder.v1 import embedder_pb2
from memetwin.gateway.v1 import cache_pb2, chat_pb2, rag_pb2, twin_pb2
from memetwin.search.v1 import search_pb2
from services.cli.load import DEMO
from tests.attacks.contract import Reply, call, methods, name_of
from tests.attacks.names import GHOST, MARKER, SECRET, Names
from tests.documents import _parts as parts
from tests.stack import Stack, wait_until_ready

# The tenant of each key: the attacked one, the attacker, one that shows what is possible, and
# those that make random calls.
TENANTS = {"victim-key": "victim", "attacker-key": "attacker", "control-key": "control"}
VICTIM, ATTACKER, CONTROL = TENANTS
TENANTS |= {f"random-key-{number}": f"random-{number}" for number in range(4)}
RANDOM = [*TENANTS][3:]
PICTURES = sorted((DEMO / "pictures").glob("*.png"))
_METHODS = {name_of(method): method for method in methods()}


def keys_file(folder: Path) -> str:
    rows = [
        {
            "sha256": hashlib.sha256(key.encode()).hexdigest(),
            "tenant": tenant,
            "rights": ["admin", "cache", "chat", "embed", "rag", "search", "twin"],
        }
        for key, tenant in TENANTS.items()
    ]
    file = folder / "keys.json"
    file.write_text(json.dumps(rows))
    return str(file)


class World:
    """The stack, and its tenants as callers."""

    def __init__(self, redis_url: str, prefix: str, folder: Path, llm_url: str) -> None:
        self.prefix = prefix
        self._expiring: set[str] = set()
        self.redis: Any = redis.Redis.from_url(redis_url)
        self.stack = Stack(
            redis_url,
            prefix,
            api_keys_file=keys_file(folder),
            llm_base_url=llm_url,
            llm_model="parrot",
            # With this secret, no other tenant has prompts in the victim's search collection.
            secret="00" * 31 + "1b",
        )
        wait_until_ready(self.stack)
        before = self.snapshot()
        self.victim = self.seed(VICTIM)
        filled = self.snapshot()
        self.control = self.seed(CONTROL)
        after = self.snapshot()
        # The keys in Redis that have something of the victim, and the victim's fields and members
        # of those that tenants share.
        self.victims_keys = frozenset(
            key for key in filled.keys() & after.keys() if filled[key] != before.get(key)
        )
        self.shared = {
            key: _items(filled[key]) - _items(before.get(key))
            for key in self.victims_keys
            # The names of tenants are written a second after their lookups.
            if after[key] != filled[key] or key.endswith(":tenant_names:")
        }
        self.ghost = self.victim.ghost(PICTURES[2].read_bytes(), self._embed(GHOST, VICTIM)[0])

    def close(self) -> None:
        self.stack.close()
        self.redis.close()

    def call(self, rpc: str, key: str, *requests: Any) -> Reply:
        return call(self.stack.gateway, _METHODS[rpc], list(requests), key)

    def must(self, rpc: str, key: str, *requests: Any) -> Any:
        reply = self.call(rpc, key, *requests)
        assert reply.code is grpc.StatusCode.OK, f"{rpc}: {reply}"
        return reply.messages[0] if reply.messages else None

    def victims_data(self) -> dict[str, Any]:
        """Return the content of the victim's keys. Some expire, so they may be missing later."""
        everything = self.snapshot()
        return {key: everything[key] for key in self.victims_keys & everything.keys()}

    def changes(self, before: dict[str, Any]) -> list[str]:
        """Return the keys that have lost or changed something of the victim.

        Of a key that tenants share, only the victim's fields and members count.
        """
        after = self.snapshot()
        return [
            key
            for key, value in before.items()
            if after.get(key) != value and not self._may_change(key, value, after.get(key))
        ]

    def _may_change(self, key: str, value: Any, now: Any) -> bool:
        if now is None:
            return key in self._expiring
        if key not in self.shared or type(value) is not type(now):
            return False
        if isinstance(value, bytes):
            return value.isdigit()  # a total
        was, is_now = _by_item(value), _by_item(now)
        return all(was.get(item) == is_now.get(item) for item in self.shared[key])

    def snapshot(self) -> dict[str, Any]:
        """Return the content of every key in Redis."""
        keys = sorted(self.redis.scan_iter(f"{self.prefix}*", count=1000))
        names = {key: key.decode().removeprefix(self.prefix) for key in keys}
        self._expiring |= {names[key] for key in keys if self.redis.ttl(key) >= 0}
        return {names[key]: self._content(key) for key in keys}

    def _content(self, key: bytes) -> Any:
        match self.redis.type(key).decode():
            case "string":
                return self.redis.get(key)
            case "hash":
                return self.redis.hgetall(key)
            case "set":
                return self.redis.smembers(key)
            case "zset":
                return self.redis.zrange(key, 0, -1, withscores=True)
            case "stream":
                return self.redis.xrange(key)
            case _:
                return self.redis.dump(key)

    def seed(self, key: str) -> Names:
        """Store something of every kind, and return its names."""
        vector, digest, model = self._embed(MARKER, key)
        names = Names(
            TENANTS[key],
            picture=PICTURES[0].read_bytes(),
            callers_picture=PICTURES[3].read_bytes(),
            vector=vector,
            digest=digest,
            model=model,
        )
        names = self._seed_cache(key, names)
        self._seed_documents(key, names)
        self._seed_twins(key, names)
        self._seed_search(key, names)
        names = dataclasses.replace(names, response=self._stored_response(key, names))
        return dataclasses.replace(names, tokens=self._tokens(key, names))

    def _embed(self, word: str, key: str) -> tuple[bytes, str, str]:
        text = embedder_pb2.Input(text=Names("").prompt.replace(MARKER, word))
        request = embedder_pb2.EmbedRequest(inputs=[text])
        reply = self.call("EmbedderService/Embed", key, request)
        if reply.code is not grpc.StatusCode.OK:
            reply = call(self.stack.embedder, _METHODS["EmbedderService/Embed"], [request], "")
        return reply.messages[0].vectors, reply.messages[0].model_digest, reply.messages[0].model

    def _seed_cache(self, key: str, names: Names) -> Names:
        scope = cache_pb2.Scope(user=names.user, namespace=names.namespace)
        create = cache_pb2.CreateEntryRequest(
            scope=scope,
            prompt=names.prompt,
            response=f"In the {SECRET} vault.",
            cites=[names.cite],
            request_id=names.request_id,
        )
        entry = self.must("CacheService/CreateEntry", key, create).entry
        for number in range(3):
            create.prompt, create.request_id = f"{SECRET} {MARKER} question {number}?", str(number)
            create.cites[:] = ["removed"] if number == 2 else [names.cite]
            self.must("CacheService/CreateEntry", key, create)
        curated = cache_pb2.CuratedEntry(prompt=f"Who is {MARKER}?", response=f"{SECRET} is.")
        load = cache_pb2.LoadEntriesRequest(scope=scope, entries=[curated])
        receipt = self.must("CacheService/LoadEntries", key, load).receipts[0]
        for cite in ("removed", "unknown"):
            purge = cache_pb2.PurgeFilter(cites=[cite])
            request = cache_pb2.PurgeEntriesRequest(scope=scope, filter=purge, force=True)
            self.must("CacheService/PurgeEntries", key, request)
        message = cache_pb2.Message(role="user", content=f"Tell me about {MARKER}.")
        chat = chat_pb2.Chat(messages=[message], scope=scope)
        self.must("ChatService/Complete", key, chat_pb2.CompleteRequest(chat=chat))
        return dataclasses.replace(
            names, entry=entry.id, curated=receipt.id, fingerprint=entry.context_fingerprint
        )

    def _seed_documents(self, key: str, names: Names) -> None:
        documents = [
            {"id": one, "title": f"{SECRET} guide", "content": f"{names.prompt} In {SECRET}."}
            for one in (names.document, f"{names.document}-2")
        ]
        requests = list(parts(names.collection, documents))
        assert self.must("RagService/IngestDocuments", key, *requests).chunks
        scope = cache_pb2.Scope(user=names.user, namespace=names.namespace)
        request = rag_pb2.AskRequest(
            collection=names.collection, question=names.prompt, scope=scope
        )
        self.must("RagService/Ask", key, request)

    def _seed_twins(self, key: str, names: Names) -> None:
        for number, picture in enumerate(PICTURES[:2]):
            request = twin_pb2.AddTwinRequest(
                id=names.twin if number == 0 else f"{names.twin}-2",
                title=f"{SECRET} cat",
                tags=[f"{SECRET}"],
                image=picture.read_bytes(),
            )
            self.must("TwinService/AddTwin", key, request)

    def _seed_search(self, key: str, names: Names) -> None:
        """Store vectors, if the gateway serves SearchService."""
        field = search_pb2.Field(name="kind", type=search_pb2.FIELD_TYPE_TAG)
        collection = search_pb2.Collection(
            name=names.search_collection,
            dimensions=len(names.vector) // 4,
            metric=search_pb2.METRIC_COSINE,
            fields=[field],
            index_text=True,
        )
        create = search_pb2.CreateCollectionRequest(collection=collection)
        if self.call("SearchService/CreateCollection", key, create).code is not grpc.StatusCode.OK:
            return
        kind = {"kind": search_pb2.FieldValue(string=SECRET)}
        documents = [
            search_pb2.Document(
                id=one,
                vector=names.vector,
                text=f"{names.prompt} {SECRET}",
                payload=SECRET.encode(),
                fields=kind,
            )
            for one in (names.chunk, f"{names.chunk}-2")
        ]
        upsert = search_pb2.UpsertDocumentsRequest(
            collection=names.search_collection, documents=documents
        )
        self.must("SearchService/UpsertDocuments", key, upsert)
        alias = search_pb2.AssignAliasRequest(alias=names.alias, collection=names.search_collection)
        self.must("SearchService/AssignAlias", key, alias)

    def _stored_response(self, key: str, names: Names) -> str:
        body = {"model": "parrot", "input": f"{names.prompt} {SECRET}", "store": True}
        url = f"http://{self.stack.http_address}/v1/responses"
        headers = {"Authorization": f"Bearer {key}"}
        reply = httpx.post(url, json=body, headers=headers, timeout=60)
        return str(reply.raise_for_status().json()["id"])

    def _tokens(self, key: str, names: Names) -> dict[str, str]:
        scope = cache_pb2.Scope(user=names.user, namespace=names.namespace)
        lists: dict[str, Any] = {
            "CacheService/ListEntries": cache_pb2.ListEntriesRequest(scope=scope),
            "CacheService/ListPurges": cache_pb2.ListPurgesRequest(scope=scope),
            "RagService/ListDocuments": rag_pb2.ListDocumentsRequest(collection=names.collection),
            "TwinService/ListTwins": twin_pb2.ListTwinsRequest(),
            "SearchService/ListCollections": search_pb2.ListCollectionsRequest(),
            "SearchService/ListDocuments": search_pb2.ListDocumentsRequest(
                collection=names.search_collection
            ),
        }
        tokens = {}
        for rpc, request in lists.items():
            request.page_size = 1
            reply = self.call(rpc, key, request)
            if reply.messages and reply.messages[0].next_page_token:
                tokens[rpc] = reply.messages[0].next_page_token
        return tokens


def _by_item(value: Any) -> dict[Any, Any]:
    """Return a hash, set or sorted set as a mapping from its fields or members."""
    match value:
        case dict():
            return value
        case set():
            return dict.fromkeys(value, True)
        case list():
            return dict(value)
    return {}


def _items(value: Any) -> frozenset[Any]:
    return frozenset(_by_item(value))
