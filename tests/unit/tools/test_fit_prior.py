import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from services.gateway.cache.error_budget.policy import ErrorBudget
from services.gateway.cache.error_budget.prior import FEATURES, WEIGHTS, Prior
from services.gateway.cache.labelled_pairs import LabelledPair
from tools import fit_prior
from tools.fit_prior import Lookups, SimulatedCache

PAIRS = [
    LabelledPair(f"How do I mend a {thing}?", f"How can a {thing} be mended?", same=True)
    for thing in (f"thing {number}" for number in range(30))
]


def lookups(odds: float) -> Lookups:
    """Lookups of a cache in which candidates with ``odds`` of 2 are right, and others wrong."""
    rng, budget = np.random.default_rng(0), ErrorBudget()
    cosines = rng.uniform(0.6, 1, 400)
    features = [budget.features([(cosine, "a"), (0.5, "b")], odds) for cosine in cosines]
    correct = rng.random(400) < (0.95 if odds > 0 else 0.05)
    return Lookups(SimulatedCache("made", [], [("", "")] * 400), features, correct)


def test_a_fit_finds_what_tells_right_candidates_from_wrong_ones() -> None:
    measured = [lookups(2.0), lookups(-2.0)]
    prior = fit_prior.fit(measured)
    assert prior.base_rate == pytest.approx(0.5, abs=0.05)
    assert prior.weights[FEATURES.index("verifier")] > 0.5
    assert (np.diff(prior.scores) >= 0).all()
    for one, expected in zip(measured, (0.95, 0.0), strict=True):
        right, wrong = fit_prior.simulate(prior, one, 0.1)
        assert right == pytest.approx(expected, abs=0.05)
        assert wrong <= 0.1


def test_caches_lack_the_answers_that_their_names_say() -> None:
    present, half, few, _, single = fit_prior.caches_of_pairs(PAIRS, seed=1)
    shares = [
        np.mean([answer in {stored for _, stored in one.stored} for _, answer in one.asked])
        for one in (present, half, few)
    ]
    assert shares == [1, 0.5, 0.1]
    assert single.alone
    rows = [(f"{number}", f"intent {number % 6}") for number in range(2000)]
    *_, opened = fit_prior.caches_of_intents(rows, seed=1)
    known = {answer for _, answer in opened.stored}
    assert 0.4 < np.mean([answer in known for _, answer in opened.asked]) < 0.6


def test_the_command_writes_a_prior_and_its_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    different = [LabelledPair("How tall is a tree?", "Where do fish sleep?", same=False)]
    monkeypatch.setattr(fit_prior, "caches_of_pairs", lambda known, seed: [])
    monkeypatch.setattr(
        fit_prior,
        "caches_of_intents",
        lambda rows, seed: [SimulatedCache("intents", rows[::2], rows[1::2])],
    )
    monkeypatch.setattr(
        fit_prior,
        "caches_of_look_alikes",
        lambda part: [fit_prior.single_entries("pairs", [PAIRS[0], *different])],
    )
    pairs, intents, out = tmp_path / "pairs", tmp_path / "intents", tmp_path / "out"
    pairs.write_text(json.dumps({"a": "x", "b": "y", "duplicate": True}))
    wordings = ("How do I get a {}?", "Where can I get a {}?", "I would like a {}.", "{}, please")
    things = ("card", "loan", "refund", "receipt")
    rows = [{"text": wording.format(one), "intent": one} for one in things for wording in wordings]
    intents.write_text("\n".join(map(json.dumps, rows)))
    out.mkdir()
    (out / "README.md").write_text("# The prior\n")
    words = ["--pairs", str(pairs), "--intents", str(intents), "--out", str(out)]
    result = CliRunner().invoke(fit_prior.main, words, catch_exceptions=False)
    assert result.exit_code == 0
    prior = Prior.load(out / "prior.json")
    assert 0 < prior.base_rate < 1
    assert ErrorBudget(prior).min_probability(0.05) >= 0.5
    assert "| intents | 4 | 4 |" in (out / "README.md").read_text()


def test_the_shipped_prior_has_all_features() -> None:
    assert len(Prior.load().weights) == len(FEATURES)
    assert WEIGHTS.with_name("README.md").read_text().count("| single entries") == 2
