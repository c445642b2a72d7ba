"""The embedder over gRPC against SentenceTransformer.encode in process, on the same texts."""

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from services.embedder.models.sentences import DEFAULT_TEXT_MODEL, read
from tests.redis_server import RedisServer
from tests.stack import Stack, wait_until

WORDS = "what how why best way learn cook buy car phone india travel work money time life".split()
TEXTS = [
    f"{WORDS[n % 16]} is the {WORDS[n // 16 % 16]} {WORDS[n // 256 % 16]} to {n}?"
    for n in range(1024)
]
ROUNDS = 3


def median(call: Callable[[], Any], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    encode = read(DEFAULT_TEXT_MODEL)[0].encode
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        stack = Stack(server.url, "bench:")
        stub = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)

        def embed(texts: list[str]) -> bool:
            inputs = [embedder_pb2.Input(text=text) for text in texts]
            return bool(stub.Embed(embedder_pb2.EmbedRequest(inputs=inputs), timeout=120).vectors)

        wait_until(lambda: embed(["ready?"]))
        one = median(lambda: encode(TEXTS[0]), 50), median(lambda: embed(TEXTS[:1]), 50)
        many = median(lambda: encode(TEXTS, batch_size=32))
        with ThreadPoolExecutor(64) as pool:
            callers = median(lambda: list(pool.map(lambda text: embed([text]), TEXTS)))
        bulk = median(lambda: [embed(TEXTS[n : n + 256]) for n in range(0, 1024, 256)])
        stack.close()
        server.stop()
    print("| | encode in process | through gRPC | ratio |\n|---|---|---|---|")
    print(
        f"| one short text, p50 ms | {one[0] * 1e3:.1f} | {one[1] * 1e3:.1f} | {one[1] / one[0]:.2f} |"
    )
    for name, seconds in (("64 callers, texts/s", callers), ("batches of 256, texts/s", bulk)):
        print(f"| {name} | {1024 / many:.0f} | {1024 / seconds:.0f} | {many / seconds:.2f} |")


if __name__ == "__main__":
    main()
