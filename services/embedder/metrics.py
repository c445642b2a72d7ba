"""What the embedder measures of itself, for each model."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram

from services.embedder.models.model import ModelInfo, PreparedInput

_SECONDS = [0.0005 * 2**step for step in range(15)]
_MODEL = ["model"]
WAITING = Gauge("memetwin_queue_tokens", "Tokens that wait for a model.", _MODEL)
AGE = Gauge("memetwin_queue_age_seconds", "Seconds the oldest input has waited so far.", _MODEL)
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
COMPUTED = Counter("memetwin_model_seconds_total", "Seconds in which lanes computed.", _MODEL)
WANTED = Counter(
    "memetwin_wanted_seconds_total",
    "Seconds in which lanes had inputs to compute, from a call's arrival to its vectors.",
    _MODEL,
)
EFFICIENCY = Gauge(
    "memetwin_efficiency",
    "Share of the model's own speed that callers got lately: computed by wanted seconds.",
    _MODEL,
)
# Efficiency forgets what is so many wanted seconds ago.
_LATELY = 10.0


class Entry(Protocol):
    """One input of a batch."""

    item: PreparedInput
    arrived: float


class Effort:
    """What part of the time in which a model was wanted it computed: the server's efficiency.

    One input wants one lane, more inputs want more, up to all. For one thread alone.
    """

    def __init__(self, info: ModelInfo) -> None:
        self._lanes, self._inputs, self._since = info.workers, 0, 0.0
        self._computed, self._wanted = COMPUTED.labels(info.name), WANTED.labels(info.name)
        self._share = EFFICIENCY.labels(info.name)
        self._lately = [0.0, 0.0]
        self._new = 0.0  # wanted seconds that no metric shows yet

    @contextlib.contextmanager
    def in_hand(self, inputs: int) -> Iterator[None]:
        """Count inputs as wanted, from here to the end."""
        self._change(inputs)
        try:
            yield
        finally:
            self._change(-inputs)
            if not self._inputs:
                self._show(0.0)

    def compute(self, seconds: float) -> None:
        """Count a batch that one lane has computed."""
        self._computed.inc(seconds)
        self._change(0)
        self._show(seconds)

    def _change(self, inputs: int) -> None:
        now = time.monotonic()
        self._new += min(self._lanes, self._inputs) * (now - self._since)
        self._since, self._inputs = now, self._inputs + inputs

    def _show(self, computed: float) -> None:
        """Bring the metrics up to date; not with every call, because it costs."""
        wanted, self._new = self._new, 0.0
        self._wanted.inc(wanted)
        kept = math.exp(-wanted / _LATELY)
        self._lately = [self._lately[0] * kept + computed, self._lately[1] * kept + wanted]
        if self._lately[1]:
            self._share.set(min(1.0, self._lately[0] / self._lately[1]))


class Metrics:
    """The metrics of one model; ``age`` says how long the oldest input in its queue has waited."""

    def __init__(self, info: ModelInfo, age: Callable[[], float]) -> None:
        self.waiting = WAITING.labels(info.name)
        self.effort = Effort(info)
        AGE.labels(info.name).set_function(age)
        self._queue = QUEUE.labels(info.name)
        self._size, self._fill = SIZE.labels(info.name), FILL.labels(info.name)
        self._inputs, self._recalled = INPUTS.labels(info.name), RECALLED.labels(info.name)
        self._preprocess = PREPROCESS.labels(info.name)
        self._inference, self._tokens = INFERENCE.labels(info.name), TOKENS.labels(info.name)

    def asked(self, inputs: int, recalled: int, preprocess: float) -> None:
        """Count a call: its inputs, those remembered, and the seconds to prepare the others."""
        self._inputs.inc(inputs)
        if recalled:
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
        for wait in set(waited):  # the inputs of a call came together, a batch may have hundreds
            self._queue.observe(wait)
