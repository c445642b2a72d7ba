"""The embedder on one NVIDIA GPU: through gRPC against the runtime alone. ``make bench-gpu``.

Clients run in processes of their own, so that one Python does not hold back the other. Short texts
go in batches of 256 by MiniLM; pictures of 400 by 300 pixels go as JPEG in batches of 32 to a model
of CLIP ViT-B/32's shapes with random weights, decoding counted in. Nothing is remembered.
"""

import io
import itertools
import json
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
CLIENTS, CALLS = 8, 4
TEXTS, PICTURES = 256, 32
WORDS = "what how why best way learn cook buy car phone india travel work money time life".split()


def texts(start: int) -> list[str]:
    return [
        f"{WORDS[n % 16]} is the {WORDS[n // 16 % 16]} to {n}?" for n in range(start, start + TEXTS)
    ]


def jpeg(number: int) -> bytes:
    chance, file = np.random.default_rng(number), io.BytesIO()
    small = Image.fromarray(chance.integers(0, 256, (12, 16, 3), np.uint8))
    small.resize((400, 300), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return file.getvalue()


def ask(address: str, kind: str, client: int) -> float:
    """Call as fast as the server answers; return inputs a second, the warm-up left out."""
    pictures = [jpeg(client * PICTURES + n) for n in range(PICTURES)] if kind == "pictures" else []
    numbers = itertools.count(client * 10**9, TEXTS)
    with channel(address) as opened, ThreadPoolExecutor(CALLS) as pool:
        stub: Any = embedder_pb2_grpc.EmbedderServiceStub(opened)
        begun = time.monotonic()

        def caller(_: int) -> int:
            done = 0
            while (passed := time.monotonic() - begun) < WARM_UP + SECONDS:
                if kind == "texts":
                    stub.Embed(request(texts(next(numbers))), timeout=60)
                else:
                    inputs = [embedder_pb2.Input(image=data) for data in pictures]
                    stub.Embed(embedder_pb2.EmbedRequest(inputs=inputs), timeout=60)
                done += (TEXTS if kind == "texts" else PICTURES) if passed > WARM_UP else 0
            return done

        return sum(pool.map(caller, range(CALLS))) / SECONDS


def served(address: str, kind: str) -> float:
    with ProcessPoolExecutor(CLIENTS, get_context("spawn")) as clients:
        asked = [clients.submit(ask, address, kind, number) for number in range(CLIENTS)]
        return sum(one.result() for one in asked)


def raw(model: SentenceTransformerModel) -> float:
    """Texts a second of the runtime alone, all lanes at work on batches that are tokenised."""
    batches = [model.prepare(texts(n * TEXTS), "") for n in range(64)]
    with ThreadPoolExecutor(model.info.workers) as pool:
        list(pool.map(model.encode, batches))  # captures its graphs
        rounds, started = 0, time.monotonic()
        while time.monotonic() - started < SECONDS:
            list(pool.map(model.encode, batches))
            rounds += 1
        return rounds * len(batches) * TEXTS / (time.monotonic() - started)


def clip(folder: Path) -> str:
    """Write a model of CLIP ViT-B/32's shapes, its weights random and its words letters alone."""
    from sentence_transformers import SentenceTransformer
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor
    from transformers import CLIPTokenizer as Tokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = Tokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77
    )
    make: Any = CLIPProcessor
    config: Any = CLIPConfig  # its defaults are those of ViT-B/32
    torch.manual_seed(0)
    CLIPModel(config()).save_pretrained(folder / "plain")
    make(CLIPImageProcessorPil(), tokenizer).save_pretrained(folder / "plain")
    SentenceTransformer(str(folder / "plain"), device="cpu").save(str(folder / "model"))
    return str(folder / "model")


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("no CUDA here: nothing was measured")
    print(torch.cuda.get_device_name(), f"{os.cpu_count()} cores\n", sep=", ")
    print("| | raw, in process | through gRPC | share | bar |\n|---|---|---|---|---|")
    quiet = os.environ | {"MEMETWIN_EMBED_CACHE": "0"}
    model = SentenceTransformerModel.load(DEFAULT_TEXT_MODEL)
    alone, info = raw(model), model.info
    del model
    server = EmbedderProcess(quiet)
    through = served(server.address, "texts")
    server.stop()
    share = f"{through / alone:.2f}"
    print(
        f"| short texts/s, {info.runtime} {info.dtype} | {alone:.0f} | {through:.0f} | {share} | 60000, .70 |"
    )
    with tempfile.TemporaryDirectory() as folder:
        server = EmbedderProcess(quiet | {"MEMETWIN_IMAGE_MODEL": clip(Path(folder))})
        pictures = served(server.address, "pictures")
        server.stop()
    print(f"| pictures/s, CLIP ViT-B/32 | – | {pictures:.0f} | – | 2000 |")


if __name__ == "__main__":
    main()
