"""What the embedder measures of itself, for each model."""

from collections.abc import Sequence
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram

from services.embedder.models.model import Card, Prepared

_SECONDS = [0.0005 * 2**step for step in range(15)]
_MODEL = ["model"]
WAITING = Gauge("memetwin_queue_tokens", "Tokens that wait for a model.", _MODEL)
AGE = Gauge("memetwin_queue_age_seconds", "Seconds the oldest of the last batch waited.", _MODEL)
QUEUE = Histogram(
    "memetwin_queue_seconds",
    "Seconds that inputs of one batch and call waited.",
    _MODEL,
    buckets=_SECONDS,
)
PREPROCESS = Histogram(
    "memetwin_preprocess_seconds", "Seconds of tokenising or decoding.", _MODEL, buckets=_SECONDS
)
INFERENCE = Histogram(
    "memetwin_inference_seconds", "Seconds a batch took.", _MODEL, buckets=_SECONDS
)
SIZE = Histogram(
    "memetwin_batch_inputs", "Inputs of a batch.", _MODEL, buckets=[2**n for n in range(9)]
)
FILL = Histogram(
    "memetwin_batch_fill",
    "Share of a batch's tokens that is no padding.",
    _MODEL,
    buckets=[0.1 * n for n in range(1, 11)],
)
INPUTS = Counter("memetwin_embed_inputs_total", "Inputs asked for.", _MODEL)
RECALLED = Counter(
    "memetwin_embed_recalled_total", "Different inputs whose vector was remembered.", _MODEL
)
TOKENS = Counter("memetwin_tokens_total", "Tokens computed.", _MODEL)


class Entry(Protocol):
    """One input of a batch."""

    item: Prepared
    arrived: float


class Metrics:
    """The metrics of one model."""

    def __init__(self, card: Card) -> None:
        self.waiting = WAITING.labels(card.name)
        self._age, self._queue = AGE.labels(card.name), QUEUE.labels(card.name)
        self._size, self._fill = SIZE.labels(card.name), FILL.labels(card.name)
        self._inputs, self._recalled = INPUTS.labels(card.name), RECALLED.labels(card.name)
        self._preprocess = PREPROCESS.labels(card.name)
        self._inference, self._tokens = INFERENCE.labels(card.name), TOKENS.labels(card.name)

    def asked(self, inputs: int, recalled: int, preprocess: float) -> None:
        """Count a call: its inputs, those remembered, and the seconds to prepare the others."""
        self._inputs.inc(inputs)
        self._recalled.inc(recalled)
        self._preprocess.observe(preprocess)

    def count(self, batch: Sequence[Entry], started: float, seconds: float) -> None:
        """Count a batch that was computed."""
        costs = [entry.item.cost for entry in batch]
        waited = [started - entry.arrived for entry in batch]
        self._size.observe(len(batch))
        self._inference.observe(seconds)
        self._tokens.inc(sum(costs))
        self._fill.observe(sum(costs) / (max(costs) * len(costs)))
        self._age.set(max(waited))
        for wait in set(waited):  # the inputs of a call came together, a batch may have hundreds
            self._queue.observe(wait)
