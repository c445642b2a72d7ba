"""Re-embeds stored texts in the background after the embedder's text model has changed.

Redis key, under the prefix of the settings: ``gateway:text_model`` holds the digest of the model
that all stored vectors belong to. The replica that holds the lease does the work. It can stop at
any point. The next run continues with the remaining vectors of other models.
"""

import asyncio
import contextlib
import logging

from prometheus_client import Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services import deadlines
from services.errors import Failure
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.types import TextModel
from services.gateway.coalescing.leases import LeaseStore
from services.gateway.redis_store import as_bytes, redis_errors
from services.gateway.reembedding.cache_entries import EntryReembedder
from services.gateway.reembedding.documents import DocumentReembedder

log = logging.getLogger(__name__)

LEASE = "reembedding"
CHECK_SECONDS = 10.0
# While replicas of the embedder are replaced, both models answer. The work starts after this many
# checks in a row have found the same model.
STABLE_CHECKS = 3
# While texts are pending, a replica that does not do the work counts them at every sixth check.
REPORT_CHECKS = 6
PENDING = Gauge(
    "memetwin_reembedding_pending",
    "Cache entries and chunks of documents whose vectors belong to another text model.",
    ["kind"],
)


class Reembedding:
    """Detects a change of the text model, and re-embeds or reports the stored texts.

    Args:
        redis: the client.
        prefix: what every key begins with.
        leases: elects the replica that does the work.
        embedder: reports the current model.
        entries: re-embeds cache entries.
        documents: re-embeds documents.
        enabled: whether to re-embed; otherwise stored vectors of other models are only reported.
    """

    def __init__(  # noqa: PLR0913 - wired once
        self,
        redis: Redis,
        prefix: str,
        leases: LeaseStore,
        embedder: EmbedderClient,
        *,
        entries: EntryReembedder,
        documents: DocumentReembedder,
        enabled: bool,
    ) -> None:
        self._redis = redis
        self._key = f"{prefix}gateway:text_model"
        self._leases = leases
        self._embedder = embedder
        self._entries = entries
        self._documents = documents
        self._enabled = enabled
        self._seen: list[str] = []
        self._done = ""
        self._pending = 0
        self._checks = 0

    async def watch(self) -> None:
        """Check the model every ``CHECK_SECONDS`` until cancelled."""
        while True:
            try:
                await self.check()
            except (Failure, RedisError):
                log.warning("re-embedding has stopped; the next check resumes it", exc_info=True)
            await asyncio.sleep(CHECK_SECONDS)

    async def check(self) -> None:
        """Re-embed the stored texts of other models, once the embedder's model is stable.

        Raises:
            Failure: a service or Redis fails. A later check continues.
        """
        try:
            with deadlines.limit(deadlines.DEFAULT_DEADLINE):
                model = await self._embedder.text_model()
        except Failure:  # the embedder is starting
            self._seen = []
            return
        self._seen = [*self._seen, model.digest][-STABLE_CHECKS:]
        self._checks += 1
        if self._pending and self._checks % REPORT_CHECKS == 0:
            await self._report(model)
        if model.digest == self._done or self._seen != [model.digest] * STABLE_CHECKS:
            return
        if not await self._is_done(model):
            token = await self._leases.acquire(LEASE)
            if not token:
                return
            if not await self._run_with_lease(token, model):
                return
        self._done = model.digest

    async def _run_with_lease(self, token: str, model: TextModel) -> bool:
        """Do the work while the lease lasts. Return False if another replica has taken it over."""
        work = asyncio.create_task(self._run(model))
        renewing = asyncio.create_task(self._renew(token))
        try:
            await asyncio.wait([work, renewing], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await renewing  # raises if Redis is unreachable
                return False
            await work
            return True
        finally:
            renewing.cancel()
            work.cancel()
            await asyncio.wait([work, renewing])
            with contextlib.suppress(RedisError):  # it expires
                await self._leases.release(LEASE, token)

    async def _renew(self, token: str) -> None:
        """Renew the lease until another replica has taken it over."""
        is_held = True
        while is_held:
            await asyncio.sleep(self._leases.seconds / 3)
            is_held = await self._leases.renew(LEASE, token)

    async def _run(self, model: TextModel) -> None:
        pending = await self._report(model)
        if not self._enabled:
            if not pending:
                await self._set_done(model)
            return
        log.info("re-embedding %d stored texts for the model %s", pending, model.digest)
        reporting = asyncio.create_task(self._keep_reporting(model))
        try:
            await self._documents.run(model)
            await self._entries.run(model)
        finally:
            reporting.cancel()
        left = await self._report(model)
        await self._set_done(model)
        log.info("re-embedding is complete; %d texts keep their old vectors", left)

    async def _keep_reporting(self, model: TextModel) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            with contextlib.suppress(Failure):
                log.info("re-embedding: %d texts are left", await self._report(model))

    async def _report(self, model: TextModel) -> int:
        """Count the texts whose vectors belong to other models, for people and for Prometheus."""
        entries = await self._entries.count(model.digest)
        chunks = await self._documents.count(model.digest)
        PENDING.labels("entries").set(entries)
        PENDING.labels("chunks").set(chunks)
        is_new = entries + chunks != self._pending
        self._pending = entries + chunks
        if self._pending and is_new and not self._enabled:
            log.warning(
                "%d cache entries and %d chunks of documents belong to another text model, so "
                "searches do not find them; MEMETWIN_REEMBED is off",
                entries,
                chunks,
            )
        return self._pending

    async def _is_done(self, model: TextModel) -> bool:
        """Return whether the work is complete; earlier versions could leave documents behind."""
        async with redis_errors():
            done = as_bytes(await self._redis.get(self._key)).decode()
        return done == model.digest and not await self._documents.count(model.digest)

    async def _set_done(self, model: TextModel) -> None:
        async with redis_errors():
            await self._redis.set(self._key, model.digest)
