"""Teaches a text model which texts belong together.

The losses are those of sentence-transformers: MultipleNegativesRankingLoss lets each text find its
own among all others of the batch, both ways; where pairs are labelled, CoSENTLoss ranks those that
belong together above those that do not. Its trainer would need `accelerate` and `datasets`, a
hundred megabytes of packages, and could not share our checkpoints.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from torch import Tensor

from services.embedder.training import text_pairs
from services.embedder.training.text_pairs import Pair
from services.embedder.training.trainer import fast

_BATCH = 64
_DOCUMENT = ("document", "passage", "corpus")


class TextPairObjective:
    """A lesson (see descent.py): the first text of a pair is a query, the second a document.

    Args:
        model: what learns; its own prompts for queries and documents are used.
        seen: pairs to learn from.
        unseen: pairs that are held out.
        seed: of all that is random.
    """

    rate, weight_decay = 2e-5, 0.01
    chances: Sequence[torch.Generator] = ()

    def __init__(
        self, model: SentenceTransformer, seen: Sequence[Pair], unseen: Sequence[Pair], seed: int
    ) -> None:
        torch.manual_seed(seed)  # of what the model drops out
        self.module: Any = model
        self._seen, self._unseen = seen, unseen
        self._groups = text_pairs.groups(seen)
        self._ranking: Any = losses.MultipleNegativesRankingLoss(
            model, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
        )
        self._order: Any = losses.CoSENTLoss(model)

    def batches(self, chance: torch.Generator) -> list[Tensor]:
        """Return an epoch's batches; no two pairs of a batch share a text."""
        order = torch.randperm(len(self._seen), generator=chance).tolist()
        return _apart(order, self._groups, _BATCH)

    def loss(self, rows: Tensor) -> Tensor:
        """Return the loss on some pairs."""
        return self._loss([self._seen[row] for row in rows.tolist()])

    def held_out_loss(self) -> float | None:
        """Return the mean loss on the held-out pairs, in batches that are the same every time."""
        if not self._unseen:
            return None
        batches = _apart(list(range(len(self._unseen))), text_pairs.groups(self._unseen), _BATCH)
        found = [float(self._loss([self._unseen[row] for row in rows])) for rows in batches]
        return sum(found) / len(found)

    def _loss(self, rows: Sequence[Pair]) -> Tensor:
        same = torch.tensor([pair.same for pair in rows], device=self.module.device)
        query, document = (self._prompt(names) for names in (("query",), _DOCUMENT))
        texts = [query + pair.a for pair in rows] + [document + pair.b for pair in rows]
        a, b = self._vectors(texts).chunk(2)
        total = a.new_zeros(())
        if same.any():
            total = total + self._ranking.compute_loss_from_embeddings([a[same], b[same]], None)
        if not same.all():
            total = total + self._order.compute_loss_from_embeddings([a, b], same.float())
        return total

    def _vectors(self, texts: list[str]) -> Tensor:
        features = {
            name: value.to(self.module.device) if isinstance(value, Tensor) else value
            for name, value in self.module.preprocess(texts).items()
        }
        with fast(self.module.device):
            vectors: Tensor = self.module(features)["sentence_embedding"]
        return vectors.float()

    def _prompt(self, names: Sequence[str]) -> str:
        known = self.module.prompts or {}
        return next((known[name] for name in names if known.get(name)), "")


def _apart(order: Sequence[int], groups: Sequence[int], size: int) -> list[Tensor]:
    """Return batches of rows, none with two of a group, as many as there would be without."""
    waiting, found = deque(order), []
    for _ in range(max(1, len(order) // size)):
        taken: dict[int, int] = {}
        later = []
        while waiting and len(taken) < size:
            row = waiting.popleft()
            if groups[row] in taken:
                later.append(row)
            else:
                taken[groups[row]] = row
        waiting.extendleft(reversed(later))
        found.append(torch.tensor(list(taken.values())))
    return found
