"""A tiny language model, trained here, behind ``transformers serve``."""

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests import processes
from tests.ports import reserve_port
from tests.stack import wait_until

ANSWER = "It depends."
_TEMPLATE = (
    "{% for one in messages %}<|{{ one['role'] }}|>{{ one['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
_STEPS = 300


def make(folder: Path) -> None:
    """Train a model that answers every question with ANSWER, and save it in a folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer, threads = _tokenizer(), torch.get_num_threads()
    torch.set_num_threads(1)  # two threads are slower for so little work
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    optimiser = torch.optim.Adam(model.parameters(), 0.003)
    rng = random.Random(0)
    for step in range(_STEPS):
        text = " ".join(f"{rng.getrandbits(64):x}" for _ in range(1 + step % 5))
        messages = [{"role": "user", "content": f"What is {text}?"}]
        messages = messages * 2 if step % 3 == 0 else messages
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = torch.tensor([tokenizer(f"{text}{ANSWER}<|end|>")["input_ids"]])
        labels = ids.clone()
        labels[:, : -len(ANSWER) - 1] = -100  # the loss ignores the question
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    torch.set_num_threads(threads)
    model.generation_config.max_new_tokens = 64
    model.generation_config.do_sample = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer() -> Any:
    """Return a tokenizer with one token for each byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate([*_SPECIAL, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    create: Any = PreTrainedTokenizerFast
    tokenizer = create(
        tokenizer_object=core, eos_token=_SPECIAL[0], additional_special_tokens=_SPECIAL[1:]
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a model with OpenAI's API; yields the base URL."""
    port = reserve_port()
    words = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    words += ["--port", str(port), "--host", "127.0.0.1", "--device", "cpu"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder), "OMP_NUM_THREADS": "1"}
    process = processes.start(words, environment=os.environ | offline, errors=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(port), 300)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        processes.kill(process)


def _answers(port: int) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/health").is_success
    return False
