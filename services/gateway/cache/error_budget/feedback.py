"""What callers say of the answers that they were served."""

import contextlib

from services.errors import Failure
from services.gateway.backends.types import Neighbours, Query
from services.gateway.cache.admin import Inventory
from services.gateway.cache.error_budget.controller import Evidence, Question, side_of
from services.gateway.cache.eviction import collection
from services.gateway.cache.scopes import Partitions
from services.gateway.cache.service import EFFORT, NEIGHBOURHOOD
from services.gateway.cache.types import Context, Decision, Entry, Request, Scope


class Feedback:
    """Takes it in: for the numbers, for the tenant's budget, and to delete what was wrong."""

    def __init__(
        self,
        inventory: Inventory,
        evidence: Evidence,
        partitions: Partitions,
        neighbours: Neighbours,
    ) -> None:
        self._inventory = inventory
        self._evidence = evidence
        self._partitions = partitions
        self._neighbours = neighbours

    async def judge(self, scope: Scope, key: str, prompt: str, *, correct: bool) -> bool:
        """Note whether an entry answered a prompt rightly; say if it is gone.

        Without the prompt, a budget learns from it only on the replica that served the entry.
        """
        entry = await self._inventory.get(scope, key)
        if prompt == entry.prompt:  # an exact hit was no decision
            self._evidence.note(key, Decision("exact", entry))
        elif prompt:
            with contextlib.suppress(Failure):
                await self._look_again(entry, prompt)
        await self._evidence.judged(key, correct=correct)
        return await self._inventory.judge(scope, key, correct=correct)

    async def _look_again(self, entry: Entry, prompt: str) -> None:
        """Look at an entry as when it was served, unless something was said before the prompt."""
        if entry.parts["history"] != Context().parts["history"]:
            return
        vectors = await self._neighbours.embedder.questions([prompt])
        partition = await self._partitions.of(entry.scope)
        name, tags = collection(vectors.digest, partition), {"partition": partition}
        tags["fingerprint"] = entry.fingerprint
        query = Query(name, vectors.rows[0], NEIGHBOURHOOD, tags, effort=EFFORT)
        [hits] = await self._neighbours.search.search([query], vectors.digest)
        asked = Request(entry.scope, Context(), prompt)
        question = Question(asked, side_of(prompt, vectors), "")
        await self._evidence.look_again(question, hits, entry)
