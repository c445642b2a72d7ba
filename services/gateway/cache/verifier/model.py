"""Estimates whether the answer to one question may be served for another.

A ``Verifier`` adds the scores of boosted trees over lexical features and of small networks over
those features and the two questions' vectors. A logistic curve turns the sum into the probability
that both ask the same. It needs only numpy. ``memetwin cache train`` creates its weights; their
card is ``weights/README.md``.
"""

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.gateway.cache.verifier import rules
from services.gateway.cache.verifier.features import contradiction, feature_row
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.trees import Array, Trees

WEIGHTS = Path(__file__).parent / "weights" / "verifier.npz"
# From this cosine on, questions less likely the same than MIN_PROBABILITY are rejected. Questions
# that contradict each other are rejected below MIN_PROBABILITY_IF_CONTRADICTED at every cosine.
# Among multiples of .1 that keep 95 % of the duplicates, these values let the fewest opposites
# through. Both are measured at a cosine of .85, on the calibration part and on opposites generated
# from it. A caller with a bound below NEAR also wants distant questions. There, only contradictions
# count.
NEAR = 0.8
MIN_PROBABILITY, MIN_PROBABILITY_IF_CONTRADICTED = 0.3, 0.7
# About this share of the Quora pairs that the rules exclude is labelled as asking the same, often
# by mistake (0.26 of those with a cosine of at least .9).
MAX_PROBABILITY_IF_DIFFERENT = 0.25
# Topics are clusters of the training's questions. A question whose cosine to the nearest one is
# FAMILIAR is as near as most held-out questions. Descriptions of pictures (SICK) are STRANGE.
FAMILIAR, STRANGE = 0.65, 0.4
# For strange questions, the log-odds of both stages shrink by a share, and a slope over the cosine
# is added. Of the slopes that cost at most .02 of the recall on held-out pairs, this one is best on
# banking77 and SICK.
STRANGE_SHARE, STRANGE_SLOPE, STRANGE_MIDDLE = 0.3, 10.0, 0.85
CENTROID_SCALE = 127  # the centroids are stored as int8
UNKNOWN = 0.5  # the probability if the verifier cannot judge the language or the whole texts
# The logistic curve over only the cosine, for lookups by vector, which have no words. It was
# fitted to 10,000 pairs of Quora questions; `tests/bench/cache.py` fits it again.
_SLOPE, _MIDDLE = 10.91, 0.816
# The vectors' differences and products are scaled to about one.
INTERACTION_SCALE = 20.0

# The computations other than float32 that the embedder may use for a model's vectors.
_RUNTIMES = (
    "openvino bfloat16 3", "openvino int8 3", "torch bfloat16 3", "cuda float16 3",
    "cuda bfloat16 3",
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A question's text, and its unit vector if known.

    Attributes:
        text: the text; empty for a lookup by vector.
        vector: float32 [dimensions].
        digest: digest of the model that made the vector.
    """

    text: LexicalText
    vector: Array | None = None
    digest: str = ""


@dataclass(frozen=True)
class Judgement:
    """A verifier's judgement of two questions.

    Attributes:
        probability: the probability that both ask the same, in (0, 1).
        contradicts: whether a difference rules that out, whatever the caller's bound.
        is_unlikely: whether they are too unlikely to ask the same for their cosine.
        difference: the kind of the difference that rules it out, for example ``number``; or "".
    """

    probability: float
    contradicts: bool
    is_unlikely: bool
    difference: str = ""

    @property
    def rejected(self) -> bool:
        """Whether the questions must not share an answer, whatever the caller's bound."""
        return self.contradicts or self.is_unlikely


class Verifier:
    """Estimates how likely two questions ask the same.

    ``arrays`` are the arrays in the weights file. The file calls features ``signs``.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._digests = _runtime_digests(str(arrays["digest"]))
        self._rarity = dict(
            zip(str(arrays["stems"]).split("\n"), arrays["rarity"].tolist(), strict=True)
        )
        self._mean, self._scale = arrays["mean"], arrays["scale"]
        self._trees = Trees(
            *(arrays[f"tree_{name}"] for name in ("feature", "threshold", "left", "right", "value"))
        )
        networks = {name for name in arrays if name.startswith("net")}
        self._networks = [
            {name[5:]: arrays[name].astype(np.float32) for name in networks if name[3] == number}
            for number in sorted({name[3] for name in networks})
        ]
        self._curves = {"words": arrays["curve_words"], "whole": arrays["curve_whole"]}
        self._pair_digest = str(arrays["pair_digest"]) if "pair_digest" in arrays else ""
        self._pair_curve = arrays["pair_curve"] if "pair_curve" in arrays else np.zeros(6)
        centroids = arrays["centroids"] if "centroids" in arrays else np.zeros((1, 1), np.int8)
        self._centroids = centroids.astype(np.float32) / np.float32(CENTROID_SCALE)

    @classmethod
    @functools.cache
    def load(cls, path: Path = WEIGHTS) -> "Verifier":
        """Read a file of weights."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls({name: arrays[name] for name in arrays.files})

    def difference(self, one: str, other: str) -> str:
        """Return the kind of a difference for which two questions never ask the same, or ""."""
        texts = LexicalText(one), LexicalText(other)
        return rules.differing(*texts, self._rarity.__contains__)

    def judge(self, one: Question, other: Question, similarity: float) -> Judgement:
        """Judge whether the answer to one of two questions with this cosine may serve the other."""
        difference = rules.differing(one.text, other.text, self._rarity.__contains__)
        is_long = rules.is_long(one.text, other.text)
        if is_long:  # too long to compare
            probability = probability_from_cosine(similarity)
        else:
            probability = self.probability(one, other, similarity)
        if difference:
            limit = UNKNOWN if difference in rules.UNCERTAIN else MAX_PROBABILITY_IF_DIFFERENT
            return Judgement(min(probability, limit), True, False, difference)
        if not is_long and probability < MIN_PROBABILITY_IF_CONTRADICTED:
            difference = contradiction(one.text, other.text)
        is_unlikely = _is_unlikely(probability, similarity)
        return Judgement(probability, bool(difference), is_unlikely, difference)

    def knows_scores_of(self, digest: str) -> bool:
        """Return whether ``refine`` knows the scores of the cross-encoder with this digest."""
        return bool(digest) and digest == self._pair_digest

    def refine(
        self, first: Judgement, one: Question, other: Question, similarity: float, score: float
    ) -> Judgement:
        """Judge two questions again with the cross-encoder's score.

        Args:
            first: a judgement of ``judge`` without a contradiction.
            one: a question.
            other: the question that it was compared with.
            similarity: the questions' cosine.
            score: log-odds from the cross-encoder that ``knows_scores_of`` knows.
        """
        odds = self.joint_odds(first, similarity, score, self.strangeness(one, other))
        slope, shift = self._pair_curve[4:].tolist()
        probability = _logistic(slope * odds + shift)
        return Judgement(probability, False, _is_unlikely(probability, similarity))

    def joint_odds(
        self, first: Judgement, similarity: float, score: float, strangeness: float
    ) -> float:
        """Return the log-odds of both stages, before their last calibration.

        Both stages learnt from questions of some topics. Elsewhere, the cosine counts more.
        """
        constant, of_first, of_score, of_similarity = self._pair_curve[:4].tolist()
        learnt = (
            constant
            + of_first * log_odds(first.probability)
            + of_score * score
            + of_similarity * similarity
        )
        by_cosine = STRANGE_SLOPE * (similarity - STRANGE_MIDDLE)
        return float(learnt * (1 - STRANGE_SHARE * strangeness) + by_cosine * strangeness)

    def strangeness(self, one: Question, other: Question) -> float:
        """Return how far two questions are from the topics of the training, in [0, 1].

        It is 0 if a vector is not known.
        """
        nearest = 1.0
        for question in (one, other):
            if question.vector is None or question.digest not in self._digests:
                return 0.0
            nearest = min(nearest, float((self._centroids @ question.vector).max()))
        return min(max((FAMILIAR - nearest) / (FAMILIAR - STRANGE), 0.0), 1.0)

    def probability(self, one: Question, other: Question, similarity: float) -> float:
        """Return the probability, in (0, 1), from the trees and the networks, without the rules.

        The networks know the vectors of one model. For other vectors only the trees decide.
        """
        features = self.features(one.text, other.text, similarity)
        score, curve = self._trees.score(features), "words"
        is_known = one.digest == other.digest and one.digest in self._digests
        if is_known and one.vector is not None and other.vector is not None:
            score += self._network_score(one.vector, other.vector, features)
            curve = "whole"
        slope, shift = self._curves[curve]
        return _logistic(float(slope * score + shift))

    def features(self, one: LexicalText, other: LexicalText, similarity: float) -> Array:
        """Return the standardised features of two texts, float32 [features]."""
        row = feature_row(one, other, similarity, lambda stem: self._rarity.get(stem, 1.0))
        return np.asarray((row - self._mean) / self._scale, np.float32)

    def _network_score(self, one: Array, other: Array, features: Array) -> float:
        interactions = np.concatenate([np.abs(one - other), one * other]) * INTERACTION_SCALE
        scores = []
        for net in self._networks:
            left = np.maximum(net["signs_weight"] @ features + net["signs_bias"], 0)
            right = np.maximum(net["vectors_weight"] @ interactions + net["vectors_bias"], 0)
            hidden = net["both_weight"] @ np.concatenate([left, right]) + net["both_bias"]
            scores.append(net["out_weight"] @ np.maximum(hidden, 0) + net["out_bias"])
        return float(np.mean(scores))


def probability_from_cosine(similarity: float) -> float:
    """Return the probability that two questions ask the same, from only their cosine."""
    return _logistic(_SLOPE * (similarity - _MIDDLE))


def log_odds(probability: float) -> float:
    """Return the log-odds of a probability, which is moved into [1e-6, 1 - 1e-6]."""
    inside = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(inside / (1 - inside))


def _is_unlikely(probability: float, similarity: float) -> bool:
    return similarity >= NEAR and probability < MIN_PROBABILITY


def _runtime_digests(digest: str) -> frozenset[str]:
    """Return the digests that a model's vectors have in every runtime.

    The embedder derives them the same way (``embedder.models.sentence_transformer``). The vectors
    of two runtimes have cosines above .99, so the networks accept all of them.
    """
    derived = (hashlib.sha256(f"{digest} {name}".encode()).hexdigest() for name in _RUNTIMES)
    return frozenset({digest, *derived})


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-min(max(value, -30.0), 30.0)))
