"""The metrics of a real embedder process, read as Prometheus reads them."""

import io
import os
import threading
import urllib.request
from collections.abc import Iterator

import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from memetwin.embedder.v1 import embedder_pb2
from tests.embedder_process import EmbedderProcess, request
from tests.small_models import sentence_model
from tests.stack import wait_until

IMAGE_MODEL = "memetwin-convnet"
Samples = dict[str, float]


class Scraped:
    """An embedder with a small text model, and its metrics."""

    def __init__(self, text_model: str) -> None:
        self.text_model = text_model
        self.process = EmbedderProcess(os.environ | {"MEMETWIN_TEXT_MODEL": text_model})

    def embed(self, texts: list[str]) -> embedder_pb2.EmbedResponse:
        reply: embedder_pb2.EmbedResponse = self.process.stub.Embed(request(texts), timeout=300)
        return reply

    def samples(self, model: str = "") -> Samples:
        """Return a model's samples by name, without histogram buckets."""
        with urllib.request.urlopen(f"http://{self.process.metrics_address}/metrics") as reply:
            text = reply.read().decode()
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.labels.get("model") == (model or self.text_model)
            and "le" not in sample.labels
        }


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    running = Scraped(sentence_model(tmp_path_factory.mktemp("models")))
    yield running
    running.process.stop()


def increases(before: Samples, after: Samples) -> Samples:
    return {name: value - before.get(name, 0) for name, value in after.items()}


def test_a_call_is_counted_with_its_tokens_batches_and_seconds(embedder: Scraped) -> None:
    before = embedder.samples()
    texts = [f"a cat {'and more ' * (n % 5)}{n}" for n in range(100)]
    reply = embedder.embed([*texts, texts[0]])
    found = increases(before, embedder.samples())
    assert found["memetwin_embed_inputs_total"] == 101
    assert found["memetwin_tokens_total"] == sum(reply.tokens[:100])
    assert found["memetwin_batch_inputs_sum"] == 100
    assert found["memetwin_preprocess_seconds_count"] == 1
    batches = found["memetwin_batch_inputs_count"]
    assert batches <= found["memetwin_queue_seconds_count"] <= 100
    assert found["memetwin_batch_fill_count"] == batches
    assert found["memetwin_inference_seconds_count"] == batches
    assert 0 < found["memetwin_batch_fill_sum"] <= batches
    busy = found["memetwin_worker_busy_seconds_total"]
    assert found["memetwin_inference_seconds_sum"] == pytest.approx(busy)
    assert busy > 0


def test_cached_inputs_are_counted_and_demand_no_worker(embedder: Scraped) -> None:
    embedder.embed(["cached 1", "cached 2"])
    before = embedder.samples()
    embedder.embed(["cached 1", "cached 2", "cached 1"])
    found = increases(before, embedder.samples())
    assert found["memetwin_embed_inputs_total"] == 3
    assert found["memetwin_embed_cache_hits_total"] == 2
    assert found["memetwin_worker_demanded_seconds_total"] == 0


def test_utilisation_is_the_busy_share_of_demanded_seconds(embedder: Scraped) -> None:
    before = embedder.samples()
    for n in range(50):
        embedder.embed([f"utilised {n}"])
    after = embedder.samples()
    found = increases(before, after)
    busy = found["memetwin_worker_busy_seconds_total"]
    assert 0 < busy < found["memetwin_worker_demanded_seconds_total"]
    assert 0 < after["memetwin_worker_utilisation"] < 1


def test_queued_tokens_and_their_age_show_while_they_wait(embedder: Scraped) -> None:
    def load() -> None:
        for call in range(4):  # long enough for more than one scrape
            embedder.embed([f"{call} {n} {'many words that take time ' * 10}" for n in range(2048)])

    loading = threading.Thread(target=load)
    scraped = list[Samples]()

    def is_over() -> bool:
        samples = embedder.samples()
        if samples["memetwin_queue_age_seconds"] > 0:
            scraped.append(samples)
        return not loading.is_alive()

    loading.start()
    wait_until(is_over, 600)
    loading.join()
    assert max(samples["memetwin_queue_tokens"] for samples in scraped) > 1000
    ages = [samples["memetwin_queue_age_seconds"] for samples in scraped]
    assert max(ages) > ages[0]
    end = embedder.samples()
    assert (end["memetwin_queue_tokens"], end["memetwin_queue_age_seconds"]) == (0, 0)


def test_each_model_has_its_own_metrics(embedder: Scraped) -> None:
    before = embedder.samples()
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "PNG")
    image = embedder_pb2.Input(image=file.getvalue())
    embedder.process.stub.Embed(embedder_pb2.EmbedRequest(inputs=[image]), timeout=60)
    assert embedder.samples(IMAGE_MODEL)["memetwin_embed_inputs_total"] == 1
    assert increases(before, embedder.samples())["memetwin_embed_inputs_total"] == 0
