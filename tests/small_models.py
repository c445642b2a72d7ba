"""Models of two layers with random weights, made of the real classes and saved as they save."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    ClapTextConfig,
    RobertaTokenizer,
)

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, *LETTERS, *(f"##{one}" for one in LETTERS)]
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


def bert(folder: Path, words: Sequence[str]) -> Path:
    """Save a BERT of sentence-transformers that knows these words; return where."""
    vocabulary = [*SPECIAL, *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    torch.manual_seed(0)
    config = _bert(vocab_size=len(vocabulary), initializer_range=0.02)
    BertModel(config).save_pretrained(folder / "plain")
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder / "plain")
    transformer: Any = Transformer(str(folder / "plain"))
    modules = [transformer, Pooling(transformer.get_embedding_dimension())]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"))
    return folder / "model"


def clap(folder: Path) -> Path:
    """Save a CLAP of sentence-transformers below ``folder``; return where."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *LETTERS]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    make: Any = RobertaTokenizer
    tokenizer = make(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=32)
    text: Any = ClapTextConfig
    audio: Any = ClapAudioConfig
    config: Any = ClapConfig
    torch.manual_seed(0)
    model = ClapModel(
        config(
            text_config=text(
                vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=2, max_position_embeddings=40, projection_dim=24,
            ).to_dict(),
            audio_config=audio(
                hidden_size=64, patch_embeds_hidden_size=8, depths=[1, 1, 1, 1],
                num_attention_heads=[1, 1, 2, 2], projection_dim=24,
            ).to_dict(),
            projection_dim=24,
        )
    )  # fmt: skip
    model.save_pretrained(folder / "plain")
    process: Any = ClapProcessor
    sounds = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")
    process(sounds, tokenizer).save_pretrained(folder / "plain")
    SentenceTransformer(str(folder / "plain"), device="cpu").save(str(folder / "model"))
    return folder / "model"


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
    usual = {
        "vocab_size": len(WORDS), "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64,
        "initializer_range": 0.5,
    }  # fmt: skip
    return make(**(usual | more))


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
