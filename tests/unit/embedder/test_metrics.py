import itertools
import math
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from services.embedder import metrics
from services.embedder.metrics import ModelMetrics, Utilisation
from services.embedder.models.model import ModelInfo, PreparedInput
from tests.fakes.models import model_info

numbers = itertools.count()


@pytest.fixture
def info() -> ModelInfo:
    """A model with two workers and a unique name, and so with its own labels."""
    return model_info("text", name=f"metrics {next(numbers)}", workers=2)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(metrics, "time", clock)
    return clock


def sample(name: str, info: ModelInfo, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"memetwin_{name}", {"model": info.name, **labels}) or 0.0


def test_one_input_demands_one_worker_and_many_demand_all(info: ModelInfo, clock: Clock) -> None:
    utilisation = Utilisation(info)
    with utilisation.demand(1):
        clock.now += 3
        with utilisation.demand(5):
            clock.now += 1
        clock.now += 2
    clock.now += 100  # nothing is demanded
    assert sample("worker_demanded_seconds_total", info) == pytest.approx(3 + 2 * 1 + 2)


def test_utilisation_is_busy_by_demanded_time(info: ModelInfo, clock: Clock) -> None:
    utilisation = Utilisation(info)
    with utilisation.demand(10):
        clock.now += 4
        utilisation.record_busy(4.0)
        utilisation.record_busy(2.0)
    assert sample("worker_busy_seconds_total", info) == 6
    assert sample("worker_demanded_seconds_total", info) == 8
    assert sample("worker_utilisation", info) == pytest.approx(6 / 8)


def test_utilisation_forgets_what_was_long_ago(info: ModelInfo, clock: Clock) -> None:
    utilisation = Utilisation(info)
    for seconds, busy in ((5, 0.0), (50, 100.0)):
        with utilisation.demand(2):
            clock.now += seconds
            utilisation.record_busy(busy)
    old = 10 * math.exp(-100 / 10)
    assert sample("worker_utilisation", info) == pytest.approx(100 / (100 + old))


def test_an_error_ends_the_demand(info: ModelInfo, clock: Clock) -> None:
    utilisation = Utilisation(info)
    with pytest.raises(KeyError), utilisation.demand(1):  # noqa: PT012
        clock.now += 1
        raise KeyError
    clock.now += 100
    with utilisation.demand(1):
        clock.now += 1
    assert sample("worker_demanded_seconds_total", info) == pytest.approx(2)


def test_requests_are_counted_with_their_cache_hits(info: ModelInfo) -> None:
    recorded = ModelMetrics(info, lambda: 0.0)
    recorded.record_request(5, 2, 0.25)
    recorded.record_request(3, 0, 0.5)
    assert sample("embed_inputs_total", info) == 8
    assert sample("embed_cache_hits_total", info) == 2
    assert sample("preprocess_seconds_count", info) == 2
    assert sample("preprocess_seconds_sum", info) == 0.75


def test_a_batch_is_counted_with_its_tokens_padding_and_waits(info: ModelInfo) -> None:
    recorded = ModelMetrics(info, lambda: 0.0)
    entries = [
        SimpleNamespace(item=PreparedInput(0, cost, cost, False, 0), enqueued_at=at)
        for cost, at in ((10, 7.0), (20, 7.0), (30, 9.0))
    ]
    recorded.record_batch(entries, 10.0, 0.5)
    assert sample("batch_inputs_sum", info) == 3
    assert sample("tokens_total", info) == 60
    assert sample("batch_fill_sum", info) == pytest.approx(60 / 90)
    assert sample("inference_seconds_sum", info) == 0.5
    # Two calls: one waited 3 seconds, the other one second.
    assert (sample("queue_seconds_count", info), sample("queue_seconds_sum", info)) == (2, 4)


def test_the_age_of_the_queue_is_read_when_metrics_are(info: ModelInfo) -> None:
    age = 1.5
    ModelMetrics(info, lambda: age)
    assert sample("queue_age_seconds", info) == 1.5
    age = 2.5
    assert sample("queue_age_seconds", info) == 2.5
