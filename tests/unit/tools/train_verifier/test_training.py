import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from services.gateway.cache.labelled_pairs import LabelledPair, distinct_texts
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import Question, Verifier
from services.gateway.cache.verifier.trees import Trees
from tools.train_verifier import training
from tools.train_verifier.card import Table


def test_tables_of_trees_score_as_the_trees_do() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 4)).astype(np.float32)
    labels = rows[:, 0] + rows[:, 1] ** 2 > 1
    trees = HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(rows, labels)
    tables = training.tree_tables(trees)
    names = ("feature", "threshold", "left", "right", "value")
    own = Trees(*(tables[f"tree_{name}"] for name in names))
    scores = [own.score(row) for row in rows[:20]]
    assert scores == pytest.approx(trees.decision_function(rows[:20]), abs=1e-4)


def test_generated_pairs_contradict_or_paraphrase() -> None:
    pairs = training.generated_pairs(["Is Paris open in 2019 for boys?", "Hello there"], 1)
    assert {pair.same for pair in pairs} == {True, False}
    assert all(pair.one == "Is Paris open in 2019 for boys?" for pair in pairs if not pair.same)


def test_a_trained_verifier_tells_pairs_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "NETWORKS", 1)
    monkeypatch.setattr(training, "EPOCHS", 1)
    things = [f"thing{number}" for number in range(80)]
    pairs = [LabelledPair(f"how reset {one}", f"how to reset {one}", True) for one in things]
    pairs += [LabelledPair(f"how reset {one}", f"why is {one} red", False) for one in things]
    texts = distinct_texts(pairs)
    vectors = np.random.default_rng(0).standard_normal((len(texts), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    row_of = {text: row for row, text in enumerate(texts)}
    tables = Table(pairs[::2], row_of, vectors), Table(pairs[1::2], row_of, vectors)
    verifier = Verifier(training.fit(*tables, "digest", 1))

    def probability(other: str) -> float:
        one = Question(LexicalText("how reset cups"))
        return verifier.probability(one, Question(LexicalText(other)), 0.5)

    assert probability("why is cups red") < probability("how to reset cups")
