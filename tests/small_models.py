"""Models of two layers with random weights, made of the real classes and saved as they save."""

import json
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{one}" for one in LETTERS)]
PROMPTS = {"query": "query: ", "passage": "passage: "}


def sentence_model(folder: Path, seed: int = 0) -> str:
    """Write a model for texts, 32 dimensions, with prompts for questions and passages."""
    plain = folder / "plain"
    plain.mkdir(parents=True)
    (plain / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(seed)
    BertModel(_bert()).save_pretrained(plain)
    BertTokenizer(str(plain / "vocab.txt"), model_max_length=64).save_pretrained(plain)
    modules = [Transformer(str(plain)), Pooling(32), Normalize()]
    SentenceTransformer(modules=modules, prompts=PROMPTS, device="cpu").save(str(folder / "model"))
    return str(folder / "model")


def cross_encoder(folder: Path, labels: int = 1) -> str:
    """Write a model that scores pairs."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    BertForSequenceClassification(_bert(num_labels=labels)).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    return str(folder)


def with_own_code(name: str, proof: Path) -> str:
    """Add a module to a model that is code in its folder, and writes ``proof`` when it is run."""
    folder = Path(name)
    (folder / "strange.py").write_text(_CODE.format(proof=str(proof)))
    (folder / "9_Strange").mkdir()
    (folder / "9_Strange" / "config.json").write_text("{}")
    modules = json.loads((folder / "modules.json").read_text())
    strange = {"idx": 9, "name": "9", "path": "9_Strange", "type": "strange.Strange"}
    (folder / "modules.json").write_text(json.dumps([*modules, strange]))
    return name


def _bert(**more: Any) -> Any:
    make: Any = BertConfig
    return make(
        vocab_size=len(WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64, initializer_range=0.5, **more,
    )  # fmt: skip


_CODE = """
from pathlib import Path

from sentence_transformers.base.modules import Module

Path({proof!r}).write_text("ran")


class Strange(Module):
    config_keys = []

    def forward(self, features):
        return features

    def save(self, *args, **kwargs):
        pass
"""
