from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import cast

import pytest

from services.embedder.batching.batcher import Batcher
from services.embedder.decoding import audio, images
from services.embedder.pipeline import Pipeline
from services.embedder.requests import AudioFile, EmbedRequest, Input
from services.errors import InvalidArgument
from tests.fakes.models import FakeModel, model_info

MANY = [f"text {n}" for n in range(500)]  # too many characters to be tokenised on the event loop


@pytest.fixture
def model() -> FakeModel:
    return FakeModel(model_info("text", "image", "audio"))


@pytest.fixture
async def batcher(model: FakeModel) -> AsyncIterator[Batcher]:
    async with Batcher(model, 10_000) as batcher:
        yield batcher


class CountingPool(ThreadPoolExecutor):
    """Counts the calls that it receives."""

    calls = 0

    def submit(self, *arguments: object, **options: object) -> object:  # type: ignore[override]
        self.calls += 1
        return super().submit(*arguments, **options)  # type: ignore[arg-type]


@pytest.fixture
def pool() -> Iterator[CountingPool]:
    with CountingPool(2) as pool:
        yield pool


def pipeline(
    batcher: Batcher, model: FakeModel, inputs: list[Input], **options: object
) -> Pipeline:
    request = EmbedRequest(inputs, **options)  # type: ignore[arg-type]
    return Pipeline(request, model, batcher, list(range(len(inputs))))


async def test_few_characters_are_tokenised_on_the_event_loop(
    batcher: Batcher, model: FakeModel, pool: CountingPool
) -> None:
    one = pipeline(batcher, model, ["a cat", "a dog"], task="query")
    prepared, computed = await one.run(pool)
    assert pool.calls == 0
    assert (computed.vectors == model.encode(model.prepare(["a cat", "a dog"], "query"))).all()
    assert [item.tokens for item in prepared] == [2, 2]
    assert one.preprocess_seconds > 0


async def test_many_inputs_are_preprocessed_in_parts_and_keep_their_order(
    batcher: Batcher, model: FakeModel, pool: CountingPool
) -> None:
    prepared, computed = await pipeline(batcher, model, list(MANY)).run(pool)
    assert pool.calls == 8
    expected = FakeModel(model.info).prepare(MANY, "")
    assert prepared == expected
    assert (computed.vectors == model.encode(expected)).all()


async def test_only_the_inputs_at_the_indices_are_computed(
    batcher: Batcher, model: FakeModel, pool: CountingPool
) -> None:
    request = EmbedRequest(["a", "b", "c", "d"])
    prepared, computed = await Pipeline(request, model, batcher, [3, 1]).run(pool)
    assert model.prepared == ["d", "b"]
    assert (len(prepared), computed.vectors.shape) == (2, (2, 8))


async def test_no_inputs_need_no_model(
    batcher: Batcher, model: FakeModel, pool: CountingPool
) -> None:
    prepared, computed = await pipeline(batcher, model, []).run(pool)
    assert (prepared, computed.vectors.shape, model.tasks) == ([], (0, 8), [])


async def test_files_are_decoded_in_the_pool(
    batcher: Batcher, model: FakeModel, pool: CountingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "decode", lambda data, field: f"{field} is {data!r}")
    monkeypatch.setattr(audio, "decode", lambda data, field: f"{field} is {bytes(data)!r}")
    await pipeline(batcher, model, ["a", b"b", AudioFile(b"c")]).run(pool)
    assert pool.calls == 1
    assert model.prepared == ["a", "inputs[1].image is b'b'", "inputs[2].audio is b'c'"]


@pytest.mark.parametrize("texts", [["a", "b " * 10], [*MANY, "b " * 10]])
async def test_a_text_that_is_too_long_is_truncated_or_refused(
    batcher: Batcher, model: FakeModel, pool: CountingPool, texts: list[Input]
) -> None:
    prepared, _ = await pipeline(batcher, model, texts).run(pool)
    assert [item.truncated for item in prepared] == [False] * (len(texts) - 1) + [True]
    with pytest.raises(InvalidArgument) as refused:
        await pipeline(batcher, model, texts, truncate=False).run(pool)
    assert refused.value.field == f"inputs[{len(texts) - 1}].text"


class WaitingPool:
    """Runs the first call at once and never any other."""

    def __init__(self) -> None:
        self.waiting = list[Future[object]]()

    def submit(self, call: Callable[[object], object], argument: object) -> Future[object]:
        future = Future[object]()
        self.waiting.append(future)
        if len(self.waiting) == 1:
            try:
                future.set_result(call(argument))
            except InvalidArgument as error:
                future.set_exception(error)
        return future


async def test_parts_that_wait_are_cancelled_when_one_fails(
    batcher: Batcher, model: FakeModel
) -> None:
    pool = WaitingPool()
    with pytest.raises(InvalidArgument, match="empty"):
        await pipeline(batcher, model, [b"", *MANY]).run(cast(ThreadPoolExecutor, pool))
    others = pool.waiting[1:]
    assert len(others) == 7
    assert all(future.cancelled() for future in others)
