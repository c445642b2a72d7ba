"""The observations that an error budget learns from."""

from dataclasses import dataclass

from services.gateway.cache.types import CandidateFeatures

MAX_OBSERVATIONS = 4096  # only the latest ones of a tenant count


@dataclass(frozen=True)
class Observation:
    """A candidate whose outcome is known.

    Attributes:
        features: the features of the candidate.
        correct: whether the cached answer was correct.
        served: whether it was served; otherwise the lookup missed and the model answered.
        weight: how many similar decisions the observation stands for, at least 1.
        probability: the estimate before the outcome was known.
        found_answer_id: identifies the model's answer; empty without one.
    """

    features: CandidateFeatures
    correct: bool
    served: bool
    weight: float
    probability: float
    found_answer_id: str = ""
