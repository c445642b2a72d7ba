"""Answers queries on vector sets: one round trip searches, a second reads the documents.

A query is repeated only if its result may be wrong: an approximate search that found too few
candidates becomes a full scan, and a full scan whose float32 cosines cannot tell the last hit from
the next requests more candidates.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from services.search.engines import scripts
from services.search.engines.catalog import Catalog, collection_changing
from services.search.engines.connection import Client
from services.search.engines.documents import query_document_not_found
from services.search.engines.keys import Keys
from services.search.engines.query_plan import QueryPlan
from services.search.engines.record import Record
from services.search.engines.redis_errors import redis_errors
from services.search.engines.vector_sets.filter import compile_filter
from services.search.filters import Condition
from services.search.types import Query, Result

# FILTER-EF: how many elements a filtered search examines before it gives up. Only collections of
# more than MAX_SCANNED_DOCUMENTS are searched this way.
_FILTER_EF = 2_000
# A query that may lack hits requests this many times as many candidates.
_RETRY_FACTOR = 4
_MAX_ATTEMPTS = 20


class VectorSetSearch:
    """Answers queries; with ``background`` Redis searches on background threads."""

    def __init__(self, redis: Client, catalog: Catalog) -> None:
        self._redis = redis
        self._catalog = catalog
        self._document_counts: dict[str, int] = {}
        self.background = False

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        """Answer queries in order. Raises NotFound for a ``document_id`` that does not exist."""
        started = time.perf_counter()
        for _ in range(_MAX_ATTEMPTS):
            plans = [await self._plan(query) for query in queries]
            await self._read_query_vectors(plans)
            if await self._execute(plans):
                took = time.perf_counter() - started
                return [plan.result(took) for plan in plans]
            for name in {query.collection.name for query in queries}:
                await self._catalog.read(name)
        raise collection_changing(queries[0].collection.name)

    async def matching_ids(self, name: str, condition: Condition | None) -> list[str]:
        """Return the sorted ids of all documents that match a condition."""

        async def find(record: Record) -> list[str] | None:
            keys = self._catalog.keys(record)
            async with redis_errors():
                total = await self._redis.zcard(keys.ids)
            command = self._scan_command(record, keys, condition, max(1, total))
            async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                pipe.execute_command(*command)
                pipe.hget(keys.record, "version")
                found, version = await pipe.execute()
            if version != b"%d" % record.version:
                return None
            return sorted(document_id.decode() for document_id in found)

        return await self._catalog.attempt(name, find)

    def _scan_command(
        self, record: Record, keys: Keys, condition: Condition | None, count: int
    ) -> list[Any]:
        """Return the command that lists every element which matches a condition, up to a count."""
        any_vector = np.zeros(record.collection.dimensions, np.float32)
        any_vector[0] = 1.0
        vector = record.transform.transform_query(any_vector)
        command: list[Any] = ["VSIM", keys.vectors, "FP32", vector.tobytes()]
        command += ["COUNT", count, "TRUTH", *self._thread_option()]
        expression = _filter_expression(record, condition)
        return command + (["FILTER", expression] if expression else [])

    async def _plan(self, query: Query) -> QueryPlan:
        record = await self._catalog.get(query.collection.name)
        if record.collection != query.collection:
            raise collection_changing(query.collection.name)
        expression = _filter_expression(record, query.condition)
        return QueryPlan(query, record, record.transform, expression, query.vector)

    async def _read_query_vectors(self, plans: Sequence[QueryPlan]) -> None:
        """Read the vectors of the documents that queries search by."""
        by_document = [plan for plan in plans if plan.query.document_id]
        if not by_document:
            return
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for plan in by_document:
                keys = self._catalog.keys(plan.record)
                pipe.hget(keys.document(plan.query.document_id), "v")
                pipe.hget(keys.record, "version")
            replies = await pipe.execute()
        for plan, vector, version in zip(by_document, replies[::2], replies[1::2], strict=True):
            if vector is not None:
                plan.vector = np.frombuffer(vector, "<f4")
            elif version == b"%d" % plan.record.version:
                raise query_document_not_found(plan.query.document_id)

    async def _execute(self, plans: Sequence[QueryPlan]) -> bool:
        """Find, read and score the hits; return False if a collection has changed."""
        for plan in plans:
            plan.prepare(self._document_counts.get(plan.record.collection.name, 0))
        pending = list(plans)
        while pending:
            if not await self._find_candidates(pending):
                return False
            complete, repeated = [], []
            for plan in pending:
                if plan.is_incomplete(self._document_counts[plan.record.collection.name]):
                    plan.full_scan = True
                    repeated.append(plan)
                else:
                    plan.candidates = plan.candidates[: plan.count]
                    complete.append(plan)
            await self._read_documents(complete)
            for plan in complete:
                if plan.may_lack_hits():
                    plan.count *= _RETRY_FACTOR
                    repeated.append(plan)
            pending = repeated
        return True

    async def _find_candidates(self, plans: Sequence[QueryPlan]) -> bool:
        """Send all commands in one round trip; return False if a collection has changed."""
        records = {plan.record.collection.name: plan.record for plan in plans}
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for plan in plans:
                command = self._command(plan)
                plan.explain(command)
                pipe.execute_command(*command)
            # The versions come last, because an index that was just dropped gives an empty reply.
            for record in records.values():
                keys = self._catalog.keys(record)
                pipe.hget(keys.record, "version")
                pipe.zcard(keys.ids)
            replies = await pipe.execute()
        found, checks = replies[: len(plans)], replies[len(plans) :]
        if checks[::2] != [b"%d" % record.version for record in records.values()]:
            return False
        self._document_counts.update(zip(records, checks[1::2], strict=True))
        for plan, reply in zip(plans, found, strict=True):
            if plan.query.text:
                plan.candidates = [(key.decode(), float(score)) for key, score in _pairs(reply)]
                plan.fetched = len(plan.candidates)
            elif plan.vector is not None:
                # VSIM's score is (1 + cosine) / 2.
                plan.candidates = [
                    (key.decode(), 2 * float(score) - 1) for key, score in _pairs(reply)
                ]
            elif plan.filter_expression:
                name = plan.record.collection.name
                ids = await self.matching_ids(name, plan.query.condition)
                plan.candidates = [(document_id, 0.0) for document_id in ids[: plan.count]]
            else:
                plan.candidates = [(document_id.decode(), 0.0) for document_id in reply]
        return True

    def _command(self, plan: QueryPlan) -> list[Any]:
        """Return the command that finds the candidates of a query."""
        keys = self._catalog.keys(plan.record)
        if plan.query.text:
            if not plan.stems:
                return ["ZRANGE", keys.scratch, 0, 0]  # an empty reply
            script: list[Any] = ["EVAL", scripts.SEARCH_TEXT, 2, keys.ids, keys.scratch]
            return [*script, keys.term_prefix, plan.count, *plan.stems]
        if plan.vector is None:
            count = 0 if plan.filter_expression else plan.count
            return ["ZRANGEBYLEX", keys.ids, "-", "+", "LIMIT", 0, count]
        vector = plan.transform.transform_query(plan.vector)
        command = ["VSIM", keys.vectors, "FP32", vector.tobytes(), "WITHSCORES"]
        return [*command, "COUNT", plan.requested, *_vsim_options(plan), *self._thread_option()]

    def _thread_option(self) -> list[str]:
        return [] if self.background else ["NOTHREAD"]

    async def _read_documents(self, plans: Sequence[QueryPlan]) -> None:
        """Read the required parts of the candidates' documents in one round trip, and score."""
        reading = [plan for plan in plans if plan.parts]
        rows: list[list[bytes | None]] = []
        if reading:
            async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                for plan in reading:
                    keys = self._catalog.keys(plan.record)
                    for document_id, _ in plan.candidates:
                        pipe.execute_command("HMGET", keys.document(document_id), *plan.parts)
                rows = await pipe.execute()
        first = 0
        for plan in plans:
            if plan.parts:
                last = first + len(plan.candidates)
                _set_documents(plan, rows[first:last])
                first = last
            if plan.query.text:
                plan.filter_candidates()
            plan.score_candidates()


def _set_documents(plan: QueryPlan, rows: Sequence[Sequence[bytes | None]]) -> None:
    """Keep the candidates whose document exists, and the parts of it that were read."""
    existing = [at for at, row in enumerate(rows) if any(part is not None for part in row)]
    plan.missing = len(rows) - len(existing)
    names = plan.parts
    plan.candidates = [plan.candidates[at] for at in existing]
    plan.documents = [
        {name: part or b"" for name, part in zip(names, rows[at], strict=True)} for at in existing
    ]


def _vsim_options(plan: QueryPlan) -> list[Any]:
    expression = plan.filter_expression
    options: list[Any] = ["FILTER", expression] if expression else []
    if plan.full_scan:
        return [*options, "TRUTH"]
    if expression:
        options += ["FILTER-EF", _FILTER_EF + plan.count]
    return [*options, "EF", plan.ef]


def _filter_expression(record: Record, condition: Condition | None) -> str:
    return compile_filter(condition, record.collection.fields, expiring=record.expiring)


def _pairs(reply: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    """Pair the ids and scores that alternate in a reply."""
    return zip(reply[::2], reply[1::2], strict=True)
