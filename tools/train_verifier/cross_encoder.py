"""Trains the cross-encoder: ``python -m tools.train_verifier.cross_encoder``.

Low-rank updates of the default text model's matrices and a head learn from labelled pairs of real
questions, from pairs that follow from them, and from generated hard pairs. The base stays frozen.
"""

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import nn

from services.embedder.models.question_pairs import MATRICES, PairEncoder, ordered
from services.embedder.models.runtimes import pad_batch
from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    load_sentence_transformer,
)
from services.gateway.cache.labelled_pairs import LabelledPair, distinct_texts
from tools.train_verifier import opposites, pairs, substitutions
from tools.train_verifier.implied import implied_pairs

RANK, BATCH, BUCKET = 32, 64, 32  # a bucket of batches is sorted by length
MAX_TOKENS = 96
HARD_OF_A_KIND, REPLACED = 900, 2500
WARM_UP = 0.06  # share of the steps
# The first phase learns real questions. The second adds the hard pairs to a part of them.
PHASES = ((8e-4, 1.3, False), (3e-4, 1.0, True))
SECOND_PHASE_PAIRS = 15_000


class LowRankUpdate(nn.Module):
    """A frozen linear layer plus the product of two small matrices."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        inputs, outputs = linear.in_features, linear.out_features
        self.down = nn.Parameter(torch.randn(RANK, inputs) / math.sqrt(inputs))
        self.up = nn.Parameter(torch.zeros(outputs, RANK))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return [n, longest, outputs] for [n, longest, inputs]."""
        narrow, up = states @ self.down.t().to(states.dtype), self.up.t().to(states.dtype)
        return torch.baddbmm(self.linear(states), narrow, up.expand(len(states), -1, -1))


class PairNetwork(nn.Module):
    """The cross-encoder in training: log-odds that both questions of a pair ask the same."""

    def __init__(self, bert: Any) -> None:
        super().__init__()
        bert.requires_grad_(False)
        bert.pooler = None
        for layer in bert.encoder.layer:
            for path in MATRICES.values():
                parent, _, name = path.rpartition(".")
                owner = layer.get_submodule(parent)
                setattr(owner, name, LowRankUpdate(getattr(owner, name)))
        bert.set_attn_implementation("eager")  # the fused one is slow in training on a processor
        for module in bert.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        width = bert.config.hidden_size
        self.encoder = PairEncoder(bert, nn.Linear(4 * width, width))
        self.dropout, self.out = nn.Dropout(0.1), nn.Linear(width, 1)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the log-odds, [n]."""
        features = {"input_ids": ids, "attention_mask": mask}
        hidden = self.encoder(features)["sentence_embedding"]
        return torch.as_tensor(self.out(self.dropout(hidden))[:, 0])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the updates and the head, as ``services.embedder.models.question_pairs`` reads."""
        found = {}
        for number, layer in enumerate(self.encoder.bert.encoder.layer):
            for name, path in MATRICES.items():
                update = layer.get_submodule(path)
                found[f"{number}.{name}.down"] = _half(update.down)
                found[f"{number}.{name}.up"] = _half(update.up)
        head = {"hidden": self.encoder.hidden, "out": self.out}
        for name, linear in head.items():
            found[f"{name}.weight"] = _half(linear.weight)
            found[f"{name}.bias"] = _half(linear.bias)
        return found


@click.command()
@click.option("--pairs", "files", required=True, multiple=True,
              type=click.Path(exists=True, path_type=Path),
              help='File of JSON lines: {"a": …, "b": …, "duplicate": …}.')  # fmt: skip
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path),
              help="File for the updates and the head, *.safetensors.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True)
def train(files: Sequence[Path], out: Path, seed: int) -> None:
    """Train on all pairs but the calibration part and the held-out part."""
    random.seed(seed)
    torch.manual_seed(seed)
    real = pairs.split([pair for file in files for pair in pairs.read(file)]).train
    model, _ = load_sentence_transformer(DEFAULT_TEXT_MODEL)
    network = PairNetwork(model[0].auto_model)
    for rate, epochs, hard in PHASES:
        known = [*real, *implied_pairs(real, seed)]
        if hard:
            known = [*random.sample(known, min(SECOND_PHASE_PAIRS, len(known))), *_hard(real, seed)]
        _fit(network, model.tokenizer, known * math.ceil(epochs), rate, epochs / math.ceil(epochs))
    safetensors.numpy.save_file(network.arrays(), out)


def _hard(real: Sequence[LabelledPair], seed: int) -> list[LabelledPair]:
    """Return generated pairs, of which half ask the same."""
    texts, rng = distinct_texts(real), random.Random(seed)  # noqa: S311 - not a secret
    changed = [
        pair
        for transform in opposites.CONTRADICTIONS.values()
        for pair in opposites.generate(texts, transform, HARD_OF_A_KIND, seed)
    ]
    found = [LabelledPair(one, other, False) for one, other in changed]
    for pair in changed:
        text = rng.choice(pair)
        found.append(LabelledPair(text, opposites.rephrase(text, rng), True))
    return found + substitutions.pairs(texts, seed, REPLACED)


def _fit(
    network: PairNetwork, tokenizer: Any, known: Sequence[LabelledPair], rate: float, share: float
) -> None:
    """Run one phase over a share of the pairs, with a linear warm-up and decay of the rate."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.01)
    batches = list(_batches(known))[: int(len(known) * share) // BATCH]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / (WARM_UP * len(batches))) * (1 - step / len(batches)),
    )
    network.train()
    for number, batch in enumerate(batches):
        ids, mask, same = _tensors(tokenizer, batch)
        with torch.autocast(
            "cpu", torch.bfloat16, enabled=torch.backends.cpu.get_cpu_capability() == "AVX512"
        ):
            logits = network(ids, mask)
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), same)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if number % 100 == 0:
            click.echo(f"step {number} of {len(batches)}, loss {loss.item():.3f}")


def _batches(known: Sequence[LabelledPair]) -> Iterator[list[LabelledPair]]:
    """Yield batches of pairs of similar length, in random order."""
    shuffled = random.sample(list(known), len(known))
    batches = []
    for first in range(0, len(shuffled), BATCH * BUCKET):
        bucket = sorted(shuffled[first : first + BATCH * BUCKET], key=_length)
        batches += [bucket[at : at + BATCH] for at in range(0, len(bucket), BATCH)]
    random.shuffle(batches)
    yield from batches


def _tensors(tokenizer: Any, batch: Sequence[LabelledPair]) -> tuple[torch.Tensor, ...]:
    """Return token ids, attention mask and labels; each pair is in a random order."""
    rows = []
    for pair in batch:
        one, other = ordered((pair.one, pair.other))
        one, other = (one, other) if random.random() < 0.5 else (other, one)  # noqa: PLR2004, S311
        rows.append(tokenizer(one, other, truncation=True, max_length=MAX_TOKENS)["input_ids"])
    ids, mask = map(torch.from_numpy, pad_batch(rows, tokenizer.pad_token_id))
    return ids, mask, torch.tensor([float(pair.same) for pair in batch])


def _length(pair: LabelledPair) -> int:
    return len(pair.one) + len(pair.other)


def _half(tensor: torch.Tensor) -> NDArray[np.float16]:
    return tensor.detach().float().cpu().numpy().astype(np.float16)


if __name__ == "__main__":
    train()
