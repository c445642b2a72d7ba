"""The embedder over gRPC against SentenceTransformer.encode in process, on the same kind of texts.

Callers have a process of their own; they, the server and the model share the machine. Each measure
is taken in turn, several times; what counts is the median of the ratios. torch may use one thread
or all cores, whichever is faster in that round: beside other work, threads that wait for each other
are ruinous. No text is ever embedded twice. Processor time a text, torch on one thread, is what
other work on the machine disturbs least.
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
from tests.bench.load import Apart, Seen
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
    """Seconds of the runtime alone, on batches as the server would form them."""
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
    with Apart() as apart:
        rounds, model = measure(server, apart)
    show(rounds, model)
    print(
        f"Ready after {server.start:.1f} s; {first.start:.1f} s at the first start, which converts"
    )
    print(f"and tries the runtimes. Resident memory {server.memory():.0f} MiB.")
    server.stop()
    show_memory(list(itertools.islice(load.texts(), 256)))


def measure(
    server: EmbedderProcess, apart: Apart
) -> tuple[list[dict[str, float]], SentenceTransformerModel]:
    encode, model = (
        load_sentence_transformer(DEFAULT_TEXT_MODEL)[0].encode,
        SentenceTransformerModel.load(DEFAULT_TEXT_MODEL),
    )
    torch.set_num_threads(os.cpu_count() or 1)
    fresh, number = load.texts(), itertools.count(10)

    def take(count: int) -> list[str]:
        return list(itertools.islice(fresh, count))

    def served(name: str, call: Callable[..., Any], asked: int = COUNT) -> dict[str, float]:
        """Let the callers apart embed COUNT texts, and ``asked`` in all: seconds, and of processor."""
        before = server.cpu()
        seen: Seen = apart.start(server.address, call, COUNT, next(number) * 10_000).result()
        own, theirs = (server.cpu() - before) / asked, seen.cpu / COUNT
        return {name: seen.took, f"{name} cpu": own + theirs, f"{name} client": theirs}

    def one_round() -> dict[str, float]:
        own = [seconds(functools.partial(encode, text)) for text in take(30)]
        time.sleep(0.5)  # torch's threads look for work for a while: the server is to be idle
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
            **served("callers", load.callers, COUNT + load.WARM_UP),
            **served("batches", load.batches),
            **served("stream", load.stream),
        }

    one_round()
    return [one_round() for _ in range(ROUNDS)], model


def show(rounds: Sequence[dict[str, float]], model: SentenceTransformerModel) -> None:
    def middle(name: str) -> float:
        return statistics.median(found[name] for found in rounds)

    def ratio(over: str, under: str) -> float:
        return statistics.median(found[over] / found[under] for found in rounds)

    served = (
        ("64 callers", "callers"),
        ("batches of 256", "batches"),
        ("a stream of them", "stream"),
    )
    print(f"{model.info.runtime} {model.info.dtype}, {model.info.workers} lanes\n")
    print("| | encode in process | through gRPC | ratio | share of raw |\n|---|---|---|---|---|")
    one, encode_one = middle("one") * 1e3, middle("encode one") * 1e3
    print(
        f"| one short text, p50 ms | {encode_one:.1f} | {one:.1f} | {ratio('one', 'encode one'):.2f} | |"
    )
    for label, name in served:
        left, right = COUNT / middle("encode"), COUNT / middle(name)
        print(
            f"| {label}, texts/s | {left:.0f} | {right:.0f} | {ratio('encode', name):.2f}"
            f" | {ratio('raw', name):.2f} |"
        )
    for label, name in served:
        left, right = middle("encode cpu") * 1e3, middle(f"{name} cpu") * 1e3
        print(
            f"| {label}, processor ms a text | {left:.2f} | {right:.2f}"
            f" ({middle(f'{name} client') * 1e3:.2f} the client's)"
            f" | {ratio('encode cpu', f'{name} cpu'):.2f} | |"
        )
    print(f"\nThe runtime alone: {COUNT / middle('raw'):.0f} texts/s.")


def show_memory(batch: Sequence[str]) -> None:
    """Show what an embedder that remembers takes for texts that it has seen."""
    server = EmbedderProcess(os.environ)
    first = seconds(lambda: server.embed(batch))
    again = statistics.median(seconds(lambda: server.embed(batch)) for _ in range(20))
    one = statistics.median(seconds(lambda: server.embed(batch[:1])) for _ in range(50))
    server.stop()
    print(f"\nRemembered: 256 texts take {again * 1e3:.1f} ms ({first * 1e3:.0f} ms at first), one")
    print(f"takes {one * 1e3:.1f} ms.")


if __name__ == "__main__":
    main()
