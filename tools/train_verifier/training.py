"""``memetwin cache train``: trains the verifier on pairs of questions, and writes its card."""

import asyncio
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn

from services import grpc_channel
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.cache.labelled_pairs import LabelledPair, distinct_texts
from services.gateway.cache.verifier.features import feature_row
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import Verifier
from tools.train_verifier import opposites, pairs
from tools.train_verifier.card import Table, card

NETWORKS, EPOCHS, BATCH = 3, 12, 256
CONTRADICTIONS_OF_A_KIND, PARAPHRASES = 1500, 3000
_MIN_TEXTS = 2  # stems in fewer texts count as the rarest


class Network(nn.Module):
    """A layer for the features, a layer for the vector interactions, and one layer over both.

    The layers have the names of the arrays in the weights file.
    """

    def __init__(self, features: int, dimensions: int) -> None:
        super().__init__()
        self.signs, self.vectors = nn.Linear(features, 48), nn.Linear(2 * dimensions, 96)
        self.both, self.out = nn.Linear(144, 64), nn.Linear(64, 1)

    def forward(self, features: torch.Tensor, interactions: torch.Tensor) -> torch.Tensor:
        """Return the logits, [n]."""
        interactions = nn.functional.dropout(interactions, 0.4, self.training)
        hidden = torch.cat([self.signs(features).relu(), self.vectors(interactions).relu()], 1)
        hidden = nn.functional.dropout(self.both(hidden).relu(), 0.2, self.training)
        return torch.as_tensor(self.out(hidden)[:, 0])


@click.command()
@click.option("--pairs", "files", required=True, multiple=True,
              type=click.Path(exists=True, path_type=Path),
              help='File of JSON lines: {"a": …, "b": …, "duplicate": …}.')  # fmt: skip
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder for verifier.npz and its card, README.md.")  # fmt: skip
@click.option("--embedder", default=lambda: os.environ.get("MEMETWIN_EMBEDDER_ADDRESS")
              or "127.0.0.1:50051", help="Address of a running embedder.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True)
def train(files: Sequence[Path], out: Path, embedder: str, seed: int) -> None:
    """Train the cache's verifier on pairs of questions, without the held-out pairs."""
    all_pairs = [pair for file in files for pair in pairs.read(file)]
    parts = pairs.split(all_pairs)
    added = generated_pairs(distinct_texts(parts.train), seed)
    texts = distinct_texts([*all_pairs, *added])
    vectors, digest = asyncio.run(_embed(embedder, texts))
    row_of = {text: row for row, text in enumerate(texts)}
    training, calibration, held_out = (
        Table(part, row_of, vectors)
        for part in ([*parts.train, *added], parts.calibration, parts.held_out)
    )
    arrays = fit(training, calibration, digest, seed)
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / "verifier.npz", allow_pickle=False, **arrays)
    counts = {
        "train": len(parts.train),
        "calibration": len(parts.calibration),
        "held_out": len(parts.held_out),
        "added": len(added),
    }
    text = card(Verifier.load(out / "verifier.npz"), held_out, digest, counts)
    (out / "README.md").write_text(text)
    click.echo(text)


def generated_pairs(texts: Sequence[str], seed: int) -> list[LabelledPair]:
    """Return pairs generated from texts: contradictions of every kind, and paraphrases."""
    different = [
        LabelledPair(one, other, False)
        for transform in opposites.CONTRADICTIONS.values()
        for one, other in opposites.generate(texts, transform, CONTRADICTIONS_OF_A_KIND, seed)
    ]
    same = opposites.generate(texts, opposites.rephrase, PARAPHRASES, seed)
    return different + [LabelledPair(one, other, True) for one, other in same]


def fit(training: Table, calibration: Table, digest: str, seed: int) -> dict[str, NDArray[Any]]:
    """Train trees and networks on one table and calibrate their sum on another."""
    rarity = _rarity(distinct_texts(training.pairs))
    for table in (training, calibration):
        table.features = _features(table, rarity)
    mean, scale = training.features.mean(0), training.features.std(0) + 1e-6
    for table in (training, calibration):
        table.features = ((table.features - mean) / scale).astype(np.float32)
    trees = HistGradientBoostingClassifier(
        max_iter=200, learning_rate=0.06, max_leaf_nodes=24, min_samples_leaf=40,
        l2_regularization=5.0, random_state=seed,
    ).fit(training.features, training.same)  # fmt: skip
    networks = [_network(training, seed + number) for number in range(NETWORKS)]
    words = trees.decision_function(calibration.features)
    whole = words + np.mean([_logits(network, calibration) for network in networks], 0)
    return {
        "digest": np.array(digest),
        "stems": np.array("\n".join(rarity)),
        "rarity": np.array(list(rarity.values()), np.float16),
        "mean": mean.astype(np.float32),
        "scale": scale.astype(np.float32),
        "curve_words": _logistic_curve(words, calibration.same),
        "curve_whole": _logistic_curve(whole, calibration.same),
        **tree_tables(trees),
        **_network_arrays(networks),
    }


def _network_arrays(networks: Sequence[Network]) -> dict[str, NDArray[Any]]:
    return {
        f"net{number}_{name.replace('.', '_')}": value.numpy().squeeze().astype(np.float16)
        for number, network in enumerate(networks)
        for name, value in network.state_dict().items()
    }


def _network(table: Table, seed: int) -> Network:
    torch.manual_seed(seed)
    network = Network(table.features.shape[1], table.vectors.shape[1])
    steps = EPOCHS * math.ceil(len(table.pairs) / BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    rng = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        order = rng.permutation(len(table.pairs))
        for first in range(0, len(order), BATCH):
            batch = order[first : first + BATCH]
            logits = network(
                torch.from_numpy(table.features[batch]),
                torch.from_numpy(table.interactions(batch)),
            )
            loss = nn.functional.binary_cross_entropy_with_logits(
                logits, torch.from_numpy(table.same[batch])
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.inference_mode()
def _logits(network: Network, table: Table) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = network(
        torch.from_numpy(table.features), torch.from_numpy(table.interactions())
    ).numpy()
    return logits


def _features(table: Table, rarity: dict[str, float]) -> NDArray[np.float64]:
    texts = {text: LexicalText(text) for text in distinct_texts(table.pairs)}
    return np.array(
        [
            feature_row(
                texts[pair.one], texts[pair.other], float(cosine), lambda s: rarity.get(s, 1.0)
            )
            for pair, cosine in zip(table.pairs, table.cosines, strict=True)
        ]
    )


def _rarity(texts: Sequence[str]) -> dict[str, float]:
    """Return the inverse document frequency of stems, scaled from 0 to nearly 1."""
    counts = Counter(stem for text in texts for stem in {*LexicalText(text).content})
    log_total = math.log(len(texts))
    return {
        stem: math.log(len(texts) / (1 + count)) / log_total
        for stem, count in counts.items()
        if count >= _MIN_TEXTS
    }


def _logistic_curve(scores: NDArray[Any], same: NDArray[Any]) -> NDArray[np.float32]:
    """Return slope and shift of the logistic curve of probability over score (Platt scaling)."""
    fitted = LogisticRegression(C=1e6).fit(scores.reshape(-1, 1), same)
    return np.array([fitted.coef_[0, 0], fitted.intercept_[0]], np.float32)


def tree_tables(trees: HistGradientBoostingClassifier) -> dict[str, NDArray[Any]]:
    """Return trees as tables of equal length. The model's baseline becomes a tree with one leaf."""
    grown = [round_[0].nodes for round_ in trees._predictors]
    shape = (len(grown) + 1, max(map(len, grown)))
    own = np.tile(np.arange(shape[1], dtype=np.int16), (shape[0], 1))
    tables: dict[str, NDArray[Any]] = {
        "tree_feature": np.zeros(shape, np.int16),
        "tree_threshold": np.zeros(shape, np.float32),
        "tree_left": own.copy(),
        "tree_right": own.copy(),
        "tree_value": np.zeros(shape, np.float32),
    }
    for row, nodes in enumerate(grown):
        inner = ~nodes["is_leaf"].astype(bool)
        size = len(nodes)
        tables["tree_feature"][row, :size] = nodes["feature_idx"]
        tables["tree_threshold"][row, :size] = nodes["num_threshold"]
        tables["tree_left"][row, :size][inner] = nodes["left"][inner]
        tables["tree_right"][row, :size][inner] = nodes["right"][inner]
        tables["tree_value"][row, :size] = nodes["value"]
    tables["tree_value"][-1, 0] = trees._baseline_prediction.item()
    return tables


async def _embed(address: str, texts: Sequence[str]) -> tuple[NDArray[np.float32], str]:
    """Embed texts with a running embedder; return the unit vectors and the model's digest."""
    rows, digest = [], ""
    async with grpc_channel.dial(address) as channel:
        embedder = EmbedderClient(channel)
        for first in range(0, len(texts), BATCH):
            vectors = await embedder.embed_queries(texts[first : first + BATCH])
            rows.append(vectors.rows)
            digest = vectors.digest
    return np.concatenate(rows), digest
