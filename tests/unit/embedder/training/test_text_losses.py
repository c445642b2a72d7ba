from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from services.embedder.training.text_losses import TextPairObjective, batches_without_shared_groups
from services.embedder.training.text_pairs import TextPair

MATCHING = [TextPair(letter * 2, letter * 3) for letter in "abcd"]


class LetterModel(nn.Module):
    """A model whose vector is the mean embedding of a text's letters."""

    device = torch.device("cpu")

    def __init__(self, prompts: dict[str, str] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.letters = nn.Embedding(128, 16)
        self.prompts = prompts
        self.texts: list[str] = []

    def preprocess(self, texts: list[str]) -> dict[str, Any]:
        self.texts = texts
        width = max(map(len, texts))
        codes = [[ord(letter) for letter in text.ljust(width, "\0")] for text in texts]
        return {"input_ids": torch.tensor(codes), "modality": "text"}

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        mask = (features["input_ids"] > 0)[..., None]
        summed = (self.letters(features["input_ids"]) * mask).sum(1)
        return {"sentence_embedding": summed / mask.sum(1)}


def objective(train: list[TextPair], held_out: Any = (), **prompts: str) -> TextPairObjective:
    model: Any = LetterModel(prompts)
    return TextPairObjective(model, train, held_out, seed=1)


def loss(pairs: list[TextPair]) -> float:
    return objective(pairs).loss(torch.arange(len(pairs))).item()


def test_matching_texts_that_are_near_have_a_low_loss() -> None:
    shuffled = [TextPair(one.a, other.b) for one, other in pairwise(MATCHING)]
    assert loss(MATCHING) < 0.1
    assert loss(shuffled) > 1


def test_labelled_pairs_are_ranked_by_their_cosine() -> None:
    others = [TextPair("aa", "bb", False), TextPair("cc", "dd", False)]
    wrong = [TextPair("aa", "aaa", False), TextPair("cc", "ccc", False)]
    assert loss(MATCHING + wrong) > loss(MATCHING + others) + 0.5
    assert loss(others) >= 0  # without a matching pair, there is nothing to rank


def test_the_loss_has_gradients() -> None:
    tested = objective([*MATCHING, TextPair("aa", "bb", False)])
    tested.loss(torch.arange(5)).backward()  # type: ignore[no-untyped-call]
    gradient = tested.module.letters.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_queries_and_documents_follow_their_prompts() -> None:
    tested = objective(MATCHING[:1], query="q: ", passage="p: ")
    tested.loss(torch.tensor([0]))
    assert tested.module.texts == ["q: aa", "p: aaa"]


def test_the_held_out_loss_is_the_mean_over_batches() -> None:
    held_out = [TextPair(f"{n} a", f"{n} b") for n in range(130)]
    value = objective(MATCHING, held_out).held_out_loss()
    assert value is not None
    assert value > 0
    assert objective(MATCHING).held_out_loss() is None


def test_no_two_pairs_of_a_batch_share_a_text() -> None:
    pairs = [TextPair(f"a{number // 3}", f"b{number}") for number in range(300)]
    batches = objective(pairs).batches(torch.Generator().manual_seed(1))
    assert len(batches) == 4
    for batch in batches:
        assert len({pairs[row].a for row in batch.tolist()}) == len(batch) == 64


@pytest.mark.parametrize(
    ("order", "groups", "expected"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], [[0, 1], [2, 3]]),
        ([3, 1, 2, 0], [0, 1, 2, 3], [[3, 1], [2, 0]]),
        ([0, 1, 2, 3], [0, 0, 1, 1], [[0, 2], [1, 3]]),
        ([0, 1, 2, 3], [0, 0, 0, 0], [[0], [1]]),
        ([0], [0], [[0]]),
    ],
)
def test_rows_of_one_group_go_to_different_batches(
    order: list[int], groups: list[int], expected: list[list[int]]
) -> None:
    found = batches_without_shared_groups(order, groups, 2)
    assert [batch.tolist() for batch in found] == expected
