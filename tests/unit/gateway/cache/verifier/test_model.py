import hashlib
from pathlib import Path

import numpy as np
import pytest

from services.gateway.cache import calibration
from services.gateway.cache.types import packed, unpacked
from services.gateway.cache.verifier.features import SIGNS, Text, compare, contradiction
from services.gateway.cache.verifier.model import SHIPPED, Side, Verifier, by_cosine
from tools.train_verifier import opposites, pairs
from tools.train_verifier.card import recall


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return Verifier.load()


@pytest.mark.parametrize(
    ("one", "other", "sign"),
    [
        ("Turn dark mode on", "Turn dark mode off", "opposite"),
        ("What is 1+1?", "What is 21+1?", "number"),
        ("Weather in 2019", "Weather in 2020", "number"),
        ("I have two cats", "I have three cats", "number"),
        ("Can I eat it?", "Can I not eat it?", "negation"),
        ("It isn't open", "It is open", "negation"),
        ("Why can't I not go?", "Why can't I go?", "negation"),
        ("How do I reset my password?", "How can I reset a password?", ""),
        ("Population of 1,000 towns", "population of 1000 towns", ""),
    ],
)
def test_signs_of_another_question(one: str, other: str, sign: str) -> None:
    assert contradiction(Text(one), Text(other)) == contradiction(Text(other), Text(one)) == sign


def test_signs_have_names_and_are_symmetric() -> None:
    one, other = (
        Text("Is 5 km in Paris far, or --max-cost?"),
        Text("how far is Berlin from 6 miles"),
    )
    signs = dict(zip(SIGNS, compare(one, other, lambda _: 1.0), strict=True))
    assert compare(other, one, lambda _: 1.0) == list(signs.values())
    assert signs["number"] == signs["unit"] == signs["identifier"] == signs["asking"] == 1
    assert signs["names_share"] == 0
    same = dict(zip(SIGNS, compare(one, one, lambda _: 1.0), strict=True))
    assert same["overlap"] == same["contained"] == same["trigrams"] == same["runs"] == 1


def test_words_decide_where_vectors_are_equally_near(verifier: Verifier) -> None:
    def probability(one: str, other: str) -> float:
        return verifier.probability(Side(Text(one)), Side(Text(other)), 0.9)

    asked = "How do I reset my password?"
    same = probability(asked, "How can I reset my password?")
    for other in ("How do I reset 3 passwords?", "How do I never reset my password?"):
        assert probability(asked, other) < same
    assert probability("Who is Bob?", asked) == probability(asked, "Who is Bob?")


def test_opposites_are_refused_and_paraphrases_are_not(verifier: Verifier) -> None:
    def refuses(one: str, other: str) -> bool:
        sides = Side(Text(one)), Side(Text(other))
        return verifier.refuses(*sides, 0.9, verifier.probability(*sides, 0.9))

    assert refuses("How do I turn dark mode on?", "How do I turn dark mode off?")
    assert refuses("Which foods can dogs eat?", "Which foods can dogs not eat?")
    assert not refuses("How do I lose weight?", "How can I lose weight?")


def test_networks_answer_for_the_vectors_of_their_model_alone(verifier: Verifier) -> None:
    dice = np.random.default_rng(1)
    rows = dice.normal(size=(2, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with np.load(SHIPPED) as arrays:
        digest = str(arrays["digest"])
    texts = Text("How do I lose weight?"), Text("How can I lose weight?")

    def probability(name: str) -> float:
        one, other = (Side(text, row, name) for text, row in zip(texts, rows, strict=True))
        return verifier.probability(one, other, 0.9)

    assert probability("other") == verifier.probability(Side(texts[0]), Side(texts[1]), 0.9)
    assert probability(digest) != probability("other")
    own = hashlib.sha256(f"{digest} openvino int8".encode()).hexdigest()  # as the embedder says
    assert probability(own) == probability(digest)


def test_the_shipped_file_is_small_and_has_a_card() -> None:
    assert SHIPPED.stat().st_size < 3 * 2**20
    assert "held-out pairs" in (SHIPPED.parent / "README.md").read_text()


def test_probability_rises_with_similarity() -> None:
    values = [by_cosine(cosine / 10) for cosine in range(-10, 11)]
    assert values == sorted(values)
    assert 0 < values[0] < 0.01
    assert 0.8 < values[-1] < 1


def test_a_vector_survives_being_packed() -> None:
    row = np.array([3, 4], np.float32)
    kept = unpacked(packed(row))
    assert kept is not None
    assert np.allclose(kept, [0.6, 0.8], atol=1e-3)
    assert unpacked("") is None


def test_connected_questions_stay_together() -> None:
    chain = [calibration.Pair(f"q{n}", f"q{n + 1}", True) for n in range(30)]
    apart = [calibration.Pair(f"a{n}", f"b{n}", False) for n in range(300)]
    parts = pairs.split([*chain, *apart])
    whole = [parts.train, parts.calibration, parts.held_out]
    assert [len({pair.one for pair in chain} & {one.one for one in part}) for part in whole].count(
        0
    ) == 2
    assert all(whole)
    assert sum(map(len, whole)) == 330
    reversed_parts = pairs.split([*reversed(apart), *reversed(chain)])
    assert {pair.one for pair in reversed_parts.train} == {pair.one for pair in parts.train}


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"a": "1", "b": "2", "duplicate": true}\n{"a": "1"}\n')
    with pytest.raises(Exception, match="Line 2"):
        pairs.read(tmp_path / "x")


@pytest.mark.parametrize("name", opposites.OPPOSING)
def test_opposites_change_what_they_say(name: str) -> None:
    texts = ["Is Paris open in 2019 for boys?"] * 3
    made = opposites.make(texts, opposites.OPPOSING[name], 2)
    assert len(made) == 2
    assert all(one != other for one, other in made)
    if name != "name":
        assert {contradiction(Text(one), Text(other)) for one, other in made} == {name}


def test_recall_at_a_precision() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    same = np.array([True, True, False, True, False])
    assert recall(scores, same, 1.0) == pytest.approx(2 / 3)
    assert recall(scores, same, 0.75) == 1
    assert recall(np.ones(5), same, 0.7) == 0
