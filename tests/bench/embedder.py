"""The embedder over gRPC against SentenceTransformer.encode in process, on the same texts.

Client, server and model share the machine, so each measure is taken in turn, several times; what
counts is the median of the ratios. torch may use one thread or all cores, whichever is faster in
that round: beside other work, threads that wait for each other are ruinous. No text is ever embedded twice. Processor time a text, torch
on one thread, is what other work on the machine disturbs least.
"""

import asyncio
import functools
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import torch

from memetwin.embedder.v1 import embedder_pb2_grpc
from services.embedder.models.sentences import DEFAULT_TEXT_MODEL, Sentences, read
from tests.embedder_process import EmbedderProcess, request

WORDS = "what how why best way learn cook buy car phone india travel work money time life".split()
ROUNDS = 3
COUNT = 512
CALLERS = 64


def texts() -> Iterator[str]:
    for n in itertools.count():
        yield f"{WORDS[n % 16]} is the {WORDS[n // 16 % 16]} {WORDS[n // 256 % 16]} to {n}?"


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


async def callers(address: str, batch: Sequence[str]) -> None:
    """Let 64 callers ask one question after another."""
    async with grpc.aio.insecure_channel(address) as open_channel:
        stub: Any = embedder_pb2_grpc.EmbedderServiceStub(open_channel)
        waiting = iter(batch)

        async def caller() -> None:
            for text in waiting:
                await stub.Embed(request([text]), timeout=120)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))


def raw(model: Sentences, batch: Sequence[str]) -> float:
    """Seconds of the runtime alone, on batches as the server would form them."""
    items = sorted(model.prepare(batch, ""), key=lambda item: item.cost)
    size = model.card.batch_tokens // items[-1].cost
    parts = [items[n : n + size] for n in range(0, len(items), size)]
    with ThreadPoolExecutor(model.card.lanes) as pool:
        return seconds(lambda: list(pool.map(model.encode, parts)))


def main() -> None:
    fresh, server = texts(), EmbedderProcess(os.environ | {"MEMETWIN_EMBED_CACHE": "0"})
    encode, model = read(DEFAULT_TEXT_MODEL)[0].encode, Sentences.load(DEFAULT_TEXT_MODEL)
    torch.set_num_threads(os.cpu_count() or 1)

    def take(count: int) -> list[str]:
        return list(itertools.islice(fresh, count))

    def measures() -> dict[str, float]:
        own = [seconds(functools.partial(encode, text)) for text in take(30)]
        time.sleep(0.5)  # torch's threads look for work for a while: the server is to be idle
        served = [seconds(functools.partial(server.embed, [text])) for text in take(30)]
        alone = [on_one_thread(functools.partial(encode, text)) for text in take(30)]
        found = {
            "encode one": min(statistics.median(own), statistics.median(alone)),
            "one": statistics.median(served),
            "encode": min(
                seconds(lambda: encode(take(COUNT), batch_size=32)),
                on_one_thread(lambda: encode(take(COUNT), batch_size=32)),
            ),
            "callers": seconds(lambda: asyncio.run(callers(server.address, take(COUNT)))),
            "raw": raw(model, take(COUNT)),
        }
        torch.set_num_threads(1)
        found["encode cpu"] = cpu(lambda: encode(take(COUNT), batch_size=32))[1]
        torch.set_num_threads(os.cpu_count() or 1)
        found["callers cpu"] = sum(cpu(lambda: asyncio.run(callers(server.address, take(COUNT)))))
        theirs, mine = cpu(lambda: found.update(bulk=seconds(load)))
        return found | {"bulk cpu": theirs + mine, "server": theirs / (theirs + mine)}

    def load() -> None:
        for _ in range(COUNT // 256):
            server.embed(take(256))

    def cpu(call: Callable[[], Any]) -> tuple[float, float]:
        """Seconds of processor time that the server and this process take."""
        before = server.cpu(), time.process_time()
        call()
        return server.cpu() - before[0], time.process_time() - before[1]

    measures()
    rounds = [measures() for _ in range(ROUNDS)]
    show(rounds, server, model)
    server.stop()
    show_memory(take(256))


def show(rounds: Sequence[dict[str, float]], server: EmbedderProcess, model: Sentences) -> None:
    def middle(name: str) -> float:
        return statistics.median(found[name] for found in rounds)

    def ratio(over: str, under: str) -> float:
        return statistics.median(found[over] / found[under] for found in rounds)

    print(f"{model.card.runtime} {model.card.dtype}, {model.card.lanes} lanes\n")
    print("| | encode in process | through gRPC | ratio |\n|---|---|---|---|")
    one, encode_one = middle("one") * 1e3, middle("encode one") * 1e3
    print(
        f"| one short text, p50 ms | {encode_one:.1f} | {one:.1f} | {ratio('one', 'encode one'):.2f} |"
    )
    for label, name in (("64 callers", "callers"), ("batches of 256", "bulk")):
        left, right = COUNT / middle("encode"), COUNT / middle(name)
        print(f"| {label}, texts/s | {left:.0f} | {right:.0f} | {ratio('encode', name):.2f} |")
    for label, name in (("64 callers", "callers cpu"), ("batches of 256", "bulk cpu")):
        left, right = (middle(one) / COUNT * 1e3 for one in ("encode cpu", name))
        print(
            f"| {label}, processor ms a text | {left:.2f} | {right:.2f} | {ratio('encode cpu', name):.2f} |"
        )
    print(f"\nThe runtime alone: {COUNT / middle('raw'):.0f} texts/s; batches of 256 through gRPC")
    print(f"reach {ratio('raw', 'bulk'):.2f} of it; the server takes {middle('server'):.2f} of the")
    print(f"processor time, the client the rest. Ready after {server.start:.1f} s; resident")
    print(f"memory {server.memory():.0f} MiB.")


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
