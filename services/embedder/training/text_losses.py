"""The training of a text model on pairs of texts.

The losses are those of sentence-transformers. MultipleNegativesRankingLoss ranks the other text of
a pair above all others of the batch, in both directions. Where pairs are labelled, CoSENTLoss ranks
matching pairs above the others. The trainer of sentence-transformers is not used: it needs
`accelerate` and `datasets`, a hundred megabytes of packages, and writes its own checkpoints.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from torch import Tensor

from services.embedder.training import text_pairs
from services.embedder.training.text_pairs import TextPair
from services.embedder.training.trainer import autocast_where_fast

_BATCH = 64
# Names under which models store the prompts for queries and documents.
_QUERY, _DOCUMENT = ("query",), ("document", "passage", "corpus")


class TextPairObjective:
    """The objective of ranking matching texts first (see trainer.Objective).

    The first text of a pair is a query, the second a document.

    Args:
        model: the model, which is trained in place, with its own prompts for queries and documents.
        train: pairs to learn from.
        held_out: pairs for the held-out loss.
        seed: seed of the random numbers.
    """

    learning_rate, weight_decay = 2e-5, 0.01
    generators: Sequence[torch.Generator] = ()

    def __init__(
        self,
        model: SentenceTransformer,
        train: Sequence[TextPair],
        held_out: Sequence[TextPair],
        seed: int,
    ) -> None:
        torch.manual_seed(seed)  # for dropout
        self.module: Any = model
        self._train, self._held_out = train, held_out
        self._groups = text_pairs.groups(train)
        self._ranking_loss: Any = losses.MultipleNegativesRankingLoss(
            model, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
        )
        self._label_loss: Any = losses.CoSENTLoss(model)

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """Return the row numbers of each batch; no two pairs of a batch share a text."""
        order = torch.randperm(len(self._train), generator=generator).tolist()
        return batches_without_shared_groups(order, self._groups, _BATCH)

    def loss(self, rows: Tensor) -> Tensor:
        """Compute the loss on some pairs."""
        return self._loss([self._train[row] for row in rows.tolist()])

    def held_out_loss(self) -> float | None:
        """Compute the mean loss of the held-out pairs, in batches that are the same every time."""
        if not self._held_out:
            return None
        rows, groups = list(range(len(self._held_out))), text_pairs.groups(self._held_out)
        batches = batches_without_shared_groups(rows, groups, _BATCH)
        values = [self._loss([self._held_out[row] for row in batch]).item() for batch in batches]
        return sum(values) / len(values)

    def _loss(self, pairs: Sequence[TextPair]) -> Tensor:
        matches = torch.tensor([pair.matches for pair in pairs], device=self.module.device)
        query, document = self._prompt(_QUERY), self._prompt(_DOCUMENT)
        texts = [query + pair.a for pair in pairs] + [document + pair.b for pair in pairs]
        a, b = self._vectors(texts).chunk(2)
        total = a.new_zeros(())
        if matches.any():
            matching = [a[matches], b[matches]]
            total = total + self._ranking_loss.compute_loss_from_embeddings(matching, None)
        if not matches.all():
            total = total + self._label_loss.compute_loss_from_embeddings([a, b], matches.float())
        return total

    def _vectors(self, texts: list[str]) -> Tensor:
        features = {
            name: value.to(self.module.device) if isinstance(value, Tensor) else value
            for name, value in self.module.preprocess(texts).items()
        }
        with autocast_where_fast(self.module.device):
            vectors: Tensor = self.module(features)["sentence_embedding"]
        return vectors.float()

    def _prompt(self, names: Sequence[str]) -> str:
        prompts = self.module.prompts or {}
        return next((prompts[name] for name in names if prompts.get(name)), "")


def batches_without_shared_groups(
    order: Sequence[int], groups: Sequence[int], size: int
) -> list[Tensor]:
    """Split rows into batches, none with two rows of one group.

    Args:
        order: row numbers.
        groups: the group of each row.
        size: rows in a batch; if too few groups remain, a batch has fewer.

    Returns:
        ``len(order) // size`` batches, at least one. Rows that fit into none are dropped.
    """
    waiting, batches = deque(order), []
    for _ in range(max(1, len(order) // size)):
        row_of_group: dict[int, int] = {}
        postponed = []
        while waiting and len(row_of_group) < size:
            row = waiting.popleft()
            if groups[row] in row_of_group:
                postponed.append(row)
            else:
                row_of_group[groups[row]] = row
        waiting.extendleft(reversed(postponed))
        batches.append(torch.tensor(list(row_of_group.values())))
    return batches
