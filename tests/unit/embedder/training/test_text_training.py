from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.embedder.models.model import ModelLoadError, Vectors
from services.embedder.training import text_training
from services.embedder.training.evaluation import Recall
from services.embedder.training.job import TrainingJob
from services.embedder.training.text_pairs import TextPair
from services.embedder.training.trainer import TrainerConfig


class WordModel:
    """A model whose vectors are equal for texts with the same first letter."""

    def encode_query(self, texts: Sequence[str], **options: Any) -> Vectors:
        assert options["normalize_embeddings"]
        return np.eye(26, dtype=np.float32)[[ord(text[0]) - ord("a") for text in texts]]

    encode_document = encode_query


def pairs(*texts: str) -> list[TextPair]:
    """``a:b`` stands for texts that match, and ``a!b`` for texts that do not."""
    return [TextPair(text[:2], text[3:], text[2] == ":") for text in texts]


def test_a_perfect_model_has_perfect_metrics() -> None:
    found = text_training.evaluate(WordModel(), pairs("a1:a2", "b1:b2", "c1:c2"))
    assert found == text_training.PairMetrics(Recall(1, 1), 1)


def test_a_wrong_model_finds_nothing_at_rank_one() -> None:
    found = text_training.evaluate(WordModel(), pairs("a1:b2", "b1:c2", "c1:a2"))
    assert found
    assert found.recall.at_1 == 0
    assert found.average_precision < 0.6


def test_labels_say_which_pairs_match() -> None:
    good = text_training.evaluate(WordModel(), pairs("a1:a2", "b1:b2", "c1!d1"))
    bad = text_training.evaluate(WordModel(), pairs("a1:a2", "b1:b2", "c1!c2", "d1!d2"))
    assert good
    assert bad
    assert good.average_precision == 1
    assert bad.average_precision == pytest.approx(0.5)


def test_any_text_of_the_group_is_relevant_but_not_the_query_itself() -> None:
    found = text_training.evaluate(WordModel(), pairs("a1:a1", "a1:a2", "b1:b2"))
    assert found
    assert found.recall.at_1 == 1
    alone = text_training.evaluate(WordModel(), pairs("a1:a1", "b1:b2"))
    assert alone
    assert alone.recall.at_1 == 0.5


def test_too_few_pairs_are_not_evaluated() -> None:
    assert text_training.evaluate(WordModel(), pairs("a1:a2")) is None
    assert text_training.evaluate(WordModel(), pairs("a1!b1", "c1!d1")) is None


def job(tmp_path: Path, count: int) -> TrainingJob:
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(f'{{"a": "a{n}", "b": "b{n}"}}' for n in range(count)))
    return TrainingJob(file, tmp_path / "net", TrainerConfig(1), hold_out=4)


def test_two_pairs_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least two pairs that are not held out"):
        text_training.train(job(tmp_path, 2), "model")


def missing(name: str) -> Any:
    raise ModelLoadError(f"{name} cannot be loaded: it is missing")


@pytest.mark.parametrize(("count", "evaluated"), [(4, False), (5, True)])
def test_a_training_without_an_evaluation_says_so_before_it_starts(
    count: int,
    evaluated: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(text_training, "load_sentence_transformer", missing)
    with pytest.raises(ValueError, match="missing"):
        text_training.train(job(tmp_path, count), "m")
    assert ("will not be evaluated" in capsys.readouterr().out) is not evaluated


def test_a_model_that_cannot_be_loaded_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_training, "load_sentence_transformer", missing)
    with pytest.raises(ValueError, match="m cannot be loaded: it is missing"):
        text_training.train(job(tmp_path, 9), "m")
    assert not (tmp_path / "net").exists()
