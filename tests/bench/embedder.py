"""Compares the embedder over gRPC with SentenceTransformer.encode in process, on similar texts.

The load generator has its own process. It shares the machine with the server and the in-process
model. Each round takes every measurement once, and the result is the median of the rounds' ratios.
In each round torch uses one thread or all cores, whichever is faster. No text is embedded twice.
The processor time of a text, with torch on one thread, is the measurement that other work on the
machine disturbs least.
"""

import functools
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
    load_sentence_transformer,
)
from tests.bench import load
from tests.bench.load import LoadProcess, LoadResult
from tests.embedder_process import EmbedderProcess

ROUNDS = 5
COUNT = 2048


def seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def on_one_thread(call: Callable[[], Any]) -> float:
    torch.set_num_threads(1)
    try:
        return seconds(call)
    finally:
        torch.set_num_threads(os.cpu_count() or 1)


def raw(model: SentenceTransformerModel, batch: Sequence[str]) -> float:
    """Return the seconds that the bare runtime takes for batches as the server would form them."""
    items = sorted(model.prepare(batch, ""), key=lambda item: item.cost)
    size = model.info.batch_tokens // items[-1].cost
    parts = [items[n : n + size] for n in range(0, len(items), size)]
    with ThreadPoolExecutor(model.info.workers) as pool:
        return seconds(lambda: list(pool.map(model.encode, parts)))


def main() -> None:
    with tempfile.TemporaryDirectory() as empty:
        first = EmbedderProcess(os.environ | {"MEMETWIN_EXPORTS": empty})
        first.stop()
    server = EmbedderProcess(os.environ | {"MEMETWIN_EMBED_CACHE": "0"})
    with LoadProcess() as process:
        rounds, model = measure(server, process)
    show(rounds, model)
    print(
        f"Ready after {server.start:.1f} s; after {first.start:.1f} s at the first start, which converts"
    )
    print(f"the model and tries the runtimes. Resident memory {server.memory():.0f} MiB.")
    server.stop()
    show_cache(list(itertools.islice(load.texts(), 256)))


def measure(
    server: EmbedderProcess, process: LoadProcess
) -> tuple[list[dict[str, float]], SentenceTransformerModel]:
    encode, model = (
        load_sentence_transformer(DEFAULT_TEXT_MODEL)[0].encode,
        SentenceTransformerModel.load(DEFAULT_TEXT_MODEL),
    )
    torch.set_num_threads(os.cpu_count() or 1)
    fresh, number = load.texts(), itertools.count(10)

    def take(count: int) -> list[str]:
        return list(itertools.islice(fresh, count))

    def over_grpc(name: str, call: Callable[..., Any], texts: int = COUNT) -> dict[str, float]:
        """Return the seconds for COUNT texts and the processor seconds per text, warm."""
        before = server.cpu()
        result: LoadResult = process.start(
            server.address, call, COUNT, next(number) * 10_000
        ).result()
        own, client = (server.cpu() - before) / texts, result.cpu / COUNT
        return {name: result.seconds, f"{name} cpu": own + client, f"{name} client": client}

    def one_round() -> dict[str, float]:
        own = [seconds(functools.partial(encode, text)) for text in take(30)]
        time.sleep(0.5)  # torch's threads spin for a while after their last work
        one = [seconds(functools.partial(server.embed, [text])) for text in take(30)]
        alone = [on_one_thread(functools.partial(encode, text)) for text in take(30)]
        found = {
            "encode one": min(statistics.median(own), statistics.median(alone)),
            "one": statistics.median(one),
            "encode": min(
                seconds(lambda: encode(take(COUNT), batch_size=32)),
                on_one_thread(lambda: encode(take(COUNT), batch_size=32)),
            ),
            "raw": raw(model, take(COUNT)),
        }
        before = time.process_time()
        on_one_thread(lambda: encode(take(COUNT), batch_size=32))
        found["encode cpu"] = (time.process_time() - before) / COUNT
        time.sleep(0.5)
        return {
            **found,
            **over_grpc("callers", load.single_texts, COUNT + load.WARM_UP),
            **over_grpc("batches", load.batches),
            **over_grpc("stream", load.stream),
        }

    one_round()
    return [one_round() for _ in range(ROUNDS)], model


def show(rounds: Sequence[dict[str, float]], model: SentenceTransformerModel) -> None:
    def median(name: str) -> float:
        return statistics.median(found[name] for found in rounds)

    def ratio(over: str, under: str) -> float:
        return statistics.median(found[over] / found[under] for found in rounds)

    loads = (
        ("64 callers", "callers"),
        ("batches of 256", "batches"),
        ("a stream of them", "stream"),
    )
    print(f"{model.info.runtime} {model.info.dtype}, {model.info.workers} workers\n")
    print("| | encode in process | through gRPC | ratio | share of raw |\n|---|---|---|---|---|")
    one, encode_one = median("one") * 1e3, median("encode one") * 1e3
    print(
        f"| one short text, p50 ms | {encode_one:.1f} | {one:.1f} | {ratio('one', 'encode one'):.2f} | |"
    )
    for label, name in loads:
        left, right = COUNT / median("encode"), COUNT / median(name)
        print(
            f"| {label}, texts/s | {left:.0f} | {right:.0f} | {ratio('encode', name):.2f}"
            f" | {ratio('raw', name):.2f} |"
        )
    for label, name in loads:
        left, right = median("encode cpu") * 1e3, median(f"{name} cpu") * 1e3
        print(
            f"| {label}, processor ms per text | {left:.2f} | {right:.2f}"
            f" ({median(f'{name} client') * 1e3:.2f} the client's)"
            f" | {ratio('encode cpu', f'{name} cpu'):.2f} | |"
        )
    print(f"\nOnly the runtime: {COUNT / median('raw'):.0f} texts/s.")


def show_cache(batch: Sequence[str]) -> None:
    """Show the latency of cached texts."""
    server = EmbedderProcess(os.environ)
    first = seconds(lambda: server.embed(batch))
    again = statistics.median(seconds(lambda: server.embed(batch)) for _ in range(20))
    one = statistics.median(seconds(lambda: server.embed(batch[:1])) for _ in range(50))
    server.stop()
    print(f"\nCached: 256 texts take {again * 1e3:.1f} ms ({first * 1e3:.0f} ms uncached), one")
    print(f"takes {one * 1e3:.1f} ms.")


if __name__ == "__main__":
    main()
