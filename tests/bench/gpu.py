"""Measures the embedder on one NVIDIA GPU, over gRPC and as a bare runtime. ``make bench-gpu``.

Each client has its own process, so clients do not share an interpreter. Short texts go to
MiniLM in batches of 256. Images go as JPEG of 400 x 300 pixels in batches of 32 to a model with the
layers of CLIP ViT-B/32 and random weights; decoding is included. The vector cache is off.
"""

import io
import itertools
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
)
from tests.embedder_process import EmbedderProcess, request
from tests.stack import channel

SECONDS = 20.0
WARM_UP = 5.0
CLIENTS, CALLS_PER_CLIENT = 8, 4
TEXT_BATCH, IMAGE_BATCH = 256, 32
WORDS = "what how why best way learn cook buy car phone india travel work money time life".split()


def texts(start: int) -> list[str]:
    numbers = range(start, start + TEXT_BATCH)
    return [f"{WORDS[n % 16]} is the {WORDS[n // 16 % 16]} to {n}?" for n in numbers]


def jpeg(number: int) -> bytes:
    rng, file = np.random.default_rng(number), io.BytesIO()
    small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    small.resize((400, 300), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return file.getvalue()


def run_client(address: str, modality: str, client: int) -> float:
    """Call as fast as the server answers; return the inputs per second after the warm-up."""
    numbers = itertools.count(client * 10**9, TEXT_BATCH)
    files = range(client * IMAGE_BATCH, (client + 1) * IMAGE_BATCH) if modality == "images" else ()
    inputs = [embedder_pb2.Input(image=jpeg(number)) for number in files]
    with channel(address) as opened, ThreadPoolExecutor(CALLS_PER_CLIENT) as pool:
        stub: Any = embedder_pb2_grpc.EmbedderServiceStub(opened)
        started = time.monotonic()

        def call(_: int) -> int:
            count = 0
            while (elapsed := time.monotonic() - started) < WARM_UP + SECONDS:
                if modality == "texts":
                    stub.Embed(request(texts(next(numbers))), timeout=60)
                else:
                    stub.Embed(embedder_pb2.EmbedRequest(inputs=inputs), timeout=60)
                if elapsed > WARM_UP:
                    count += TEXT_BATCH if modality == "texts" else IMAGE_BATCH
            return count

        return sum(pool.map(call, range(CALLS_PER_CLIENT))) / SECONDS


def through_grpc(address: str, modality: str) -> float:
    with ProcessPoolExecutor(CLIENTS, get_context("spawn")) as pool:
        clients = [pool.submit(run_client, address, modality, n) for n in range(CLIENTS)]
        return sum(client.result() for client in clients)


def in_process(model: SentenceTransformerModel) -> float:
    """Return the texts per second of the runtime on tokenised batches, all workers busy."""
    batches = [model.prepare(texts(n * TEXT_BATCH), "") for n in range(64)]
    with ThreadPoolExecutor(model.info.workers) as pool:
        list(pool.map(model.encode, batches))  # captures the graphs
        rounds, started = 0, time.monotonic()
        while time.monotonic() - started < SECONDS:
            list(pool.map(model.encode, batches))
            rounds += 1
        return rounds * len(batches) * TEXT_BATCH / (time.monotonic() - started)


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("no CUDA on this machine: nothing was measured")
    from tests import small_models  # clients do not need its slow imports

    print(torch.cuda.get_device_name(), f"{os.cpu_count()} cores\n", sep=", ")
    print("| | in process | through gRPC | ratio | required |\n|---|---|---|---|---|")
    environment = os.environ | {"MEMETWIN_EMBED_CACHE": "0"}
    model = SentenceTransformerModel.load(DEFAULT_TEXT_MODEL)
    alone, info = in_process(model), model.info
    del model
    server = EmbedderProcess(environment)
    served = through_grpc(server.address, "texts")
    server.stop()
    name = f"short texts/s, {info.runtime} {info.dtype}"
    print(f"| {name} | {alone:.0f} | {served:.0f} | {served / alone:.2f} | 60000, .70 |")
    with tempfile.TemporaryDirectory() as folder:
        clip = str(small_models.clip(Path(folder), full_size=True))
        server = EmbedderProcess(environment | {"MEMETWIN_IMAGE_MODEL": clip})
        images = through_grpc(server.address, "images")
        server.stop()
    print(f"| images/s, CLIP ViT-B/32 | – | {images:.0f} | – | 2000 |")


if __name__ == "__main__":
    main()
