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
from tests.ports import reserve_port
from tests.small_models import sentence_model
from tests.stack import wait_until

PICTURES = "memetwin-convnet"
Seen = dict[str, float]


class Observed:
    """An embedder with a small text model, and what its metrics say."""

    def __init__(self, name: str) -> None:
        self.name, self._port = name, reserve_port()
        self.process = EmbedderProcess(
            os.environ
            | {"MEMETWIN_TEXT_MODEL": name, "MEMETWIN_METRICS_LISTEN": f"127.0.0.1:{self._port}"}
        )

    def of(self, model: str) -> Seen:
        """Return a model's samples by their names, the buckets of histograms left out."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics") as reply:
            text = reply.read().decode()
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.labels.get("model") == model and "le" not in sample.labels
        }


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    running = Observed(sentence_model(tmp_path_factory.mktemp("models")))
    yield running
    running.process.stop()


def grown(before: Seen, after: Seen) -> Seen:
    return {name: value - before.get(name, 0) for name, value in after.items()}


def test_a_call_is_counted_with_its_tokens_batches_and_seconds(observed: Observed) -> None:
    before = observed.of(observed.name)
    texts = [f"a cat {'and more ' * (n % 5)}{n}" for n in range(100)]
    reply = observed.process.stub.Embed(request([*texts, texts[0]]), timeout=60)
    seen = grown(before, observed.of(observed.name))
    assert seen["memetwin_embed_inputs_total"] == 101
    assert seen["memetwin_tokens_total"] == sum(reply.tokens[:100])
    assert seen["memetwin_batch_inputs_sum"] == 100
    assert seen["memetwin_preprocess_seconds_count"] == 1
    batches = seen["memetwin_batch_inputs_count"]
    assert batches <= seen["memetwin_queue_seconds_count"] <= 100
    assert seen["memetwin_batch_fill_count"] == seen["memetwin_inference_seconds_count"] == batches
    assert 0 < seen["memetwin_batch_fill_sum"] <= batches
    assert seen["memetwin_inference_seconds_sum"] >= seen["memetwin_model_seconds_total"] > 0


def test_efficiency_is_the_share_of_wanted_seconds_that_were_computed(observed: Observed) -> None:
    before = observed.of(observed.name)
    for n in range(50):
        observed.process.stub.Embed(request([f"efficient {n}"]), timeout=60)
    after = observed.of(observed.name)
    seen = grown(before, after)
    share = seen["memetwin_model_seconds_total"] / seen["memetwin_wanted_seconds_total"]
    assert 0 < share < 1
    assert 0 < after["memetwin_efficiency"] < 1
    wanted = after["memetwin_wanted_seconds_total"]
    observed.process.stub.Embed(request(["efficient 1"]), timeout=60)  # remembered: wants nothing
    assert observed.of(observed.name)["memetwin_wanted_seconds_total"] == wanted


def test_what_waits_shows_its_tokens_and_its_age_and_is_gone_at_the_end(
    observed: Observed,
) -> None:
    def load() -> None:
        for turn in range(4):  # long enough that it is seen more than once
            texts = [f"{turn} {n} {'many words that take time ' * 10}" for n in range(2048)]
            observed.process.stub.Embed(request(texts), timeout=60)

    call = threading.Thread(target=load)
    waiting = list[Seen]()

    def waits() -> bool:
        seen = observed.of(observed.name)
        if seen["memetwin_queue_age_seconds"] > 0:
            waiting.append(seen)
        return not call.is_alive()

    call.start()
    wait_until(waits)
    call.join()
    assert max(seen["memetwin_queue_tokens"] for seen in waiting) > 1000
    ages = [seen["memetwin_queue_age_seconds"] for seen in waiting]
    assert max(ages) > ages[0]
    end = observed.of(observed.name)
    assert (end["memetwin_queue_tokens"], end["memetwin_queue_age_seconds"]) == (0, 0)


def test_each_model_has_its_own(observed: Observed) -> None:
    before = observed.of(observed.name)
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "PNG")
    picture = embedder_pb2.Input(image=file.getvalue())
    observed.process.stub.Embed(embedder_pb2.EmbedRequest(inputs=[picture]), timeout=60)
    assert observed.of(PICTURES)["memetwin_embed_inputs_total"] == 1
    assert (
        observed.of(observed.name)["memetwin_embed_inputs_total"]
        == (before["memetwin_embed_inputs_total"])
    )
