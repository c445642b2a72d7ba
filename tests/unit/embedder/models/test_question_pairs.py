from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from services.embedder.models.question_pairs import (
    MAX_TOKENS,
    WEIGHTS,
    QuestionPairModel,
    ordered,
    pool,
)
from services.embedder.models.runtime_selection import RuntimeOptions

ASKED = "How do I reset my password?"
SAME = "What should I do to reset my password?"
DIFFERENT = "How do I reset my router?"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> QuestionPairModel:
    return QuestionPairModel.load(RuntimeOptions("torch", tmp_path_factory.mktemp("exports")))


def scores(model: QuestionPairModel, *pairs: tuple[str, str]) -> np.ndarray:
    return model.encode(model.prepare(list(pairs), ""))[:, 0]


def test_questions_that_ask_the_same_score_higher(model: QuestionPairModel) -> None:
    same, different = scores(model, (ASKED, SAME), (ASKED, DIFFERENT))
    assert same > 0 > different


def test_the_order_of_a_pair_does_not_matter(model: QuestionPairModel) -> None:
    assert ordered(("bb", "a")) == ordered(("a", "bb")) == ("a", "bb")
    assert scores(model, (ASKED, SAME)) == scores(model, (SAME, ASKED))


def test_the_order_of_words_does_matter(model: QuestionPairModel) -> None:
    one, other = "Did Google buy Apple?", "Did Apple buy Google?"
    same, swapped = scores(model, (one, one), (one, other))
    assert same > 0 > swapped


def test_a_score_does_not_depend_on_its_batch(model: QuestionPairModel) -> None:
    alone = [scores(model, (ASKED, other))[0] for other in (SAME, DIFFERENT)]
    assert scores(model, (ASKED, SAME), (ASKED, DIFFERENT)) == pytest.approx(alone, abs=0.05)


def test_long_pairs_are_cut(model: QuestionPairModel) -> None:
    short, long = model.prepare([(ASKED, SAME), (ASKED, "word " * MAX_TOKENS)], "")
    assert (short.truncated, long.truncated) == (False, True)
    assert long.tokens == MAX_TOKENS


def test_only_pairs_are_taken(model: QuestionPairModel) -> None:
    with pytest.raises(TypeError):
        model.prepare([ASKED], "")
    with pytest.raises(TypeError):
        model.tokenize(ASKED)


def test_the_runtime_that_is_selected_agrees_with_torch(
    model: QuestionPairModel, tmp_path: Path
) -> None:
    pairs = [(ASKED, SAME), (ASKED, DIFFERENT), (SAME, DIFFERENT)]
    # Not on the main thread, like in the embedder: OpenVINO gives the thread that computes a stack
    # for signals and may free it later. The next signal would then crash the process.
    with ThreadPoolExecutor(1) as pool:
        selected = pool.submit(QuestionPairModel.load, RuntimeOptions("auto", tmp_path)).result()
        found = pool.submit(scores, selected, *pairs).result()
    assert selected.info.digest == model.info.digest
    assert found == pytest.approx(scores(model, *pairs), abs=0.5)


def test_the_weights_are_small() -> None:
    assert WEIGHTS.stat().st_size <= 4_000_000


def test_each_question_has_its_own_mean() -> None:
    states = torch.tensor([[[9.0], [1.0], [3.0], [5.0], [100.0]]])
    mask = torch.tensor([[1, 1, 1, 1, 0]])
    kinds = torch.tensor([[0, 0, 0, 1, 1]])
    one, other = (9 + 1 + 3) / 3, 5.0
    expected = [9.0, abs(one - other), one * other, one + other]
    assert pool(states, mask, kinds)[0].tolist() == pytest.approx(expected)
