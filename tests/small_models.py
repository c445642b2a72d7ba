"""Models with two layers and random weights, in folders as the real libraries save them."""

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
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
    RobertaTokenizer,
)

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, *LETTERS, *(f"##{one}" for one in LETTERS)]
PROMPTS = {"query": "query: ", "passage": "passage: "}


def sentence_model(folder: Path, seed: int = 0) -> str:
    """Save a text model with 32 dimensions, and with prompts for queries and passages."""
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
    """Save a BERT of sentence-transformers that knows some words; return its folder."""
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
    """Save a CLAP of sentence-transformers; return its folder."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *LETTERS]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    create: Any = RobertaTokenizer
    tokenizer = create(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=32)
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
    processor: Any = ClapProcessor
    extractor = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")
    processor(extractor, tokenizer).save_pretrained(folder / "plain")
    SentenceTransformer(str(folder / "plain"), device="cpu").save(str(folder / "model"))
    return folder / "model"


def clip(folder: Path, *, full_size: bool = False) -> Path:
    """Save a CLIP of sentence-transformers; return its folder.

    Args:
        folder: the model's folder is created in it.
        full_size: use the layers of ViT-B/32 instead of two small ones.
    """
    words = [*LETTERS, *(f"{one}</w>" for one in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    length = 77 if full_size else 16
    tokenizer = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=length
    )
    config, images = _full_size_clip() if full_size else _small_clip(len(words), length)
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder / "plain")
    create: Any = CLIPProcessor
    create(images, tokenizer).save_pretrained(folder / "plain")
    SentenceTransformer(str(folder / "plain"), device="cpu").save(str(folder / "model"))
    return folder / "model"


def _full_size_clip() -> tuple[Any, Any]:
    create: Any = CLIPConfig  # the defaults are those of ViT-B/32
    return create(), CLIPImageProcessorPil()


def _small_clip(words: int, length: int) -> tuple[Any, Any]:
    size: Any = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }  # fmt: skip
    text = CLIPTextConfig(
        vocab_size=words, max_position_embeddings=length, eos_token_id=words - 1,
        bos_token_id=words - 2, pad_token_id=words - 1, **size,
    )  # fmt: skip
    vision = CLIPVisionConfig(image_size=32, patch_size=8, **size)
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24
    )
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return config, images


def cross_encoder(folder: Path, labels: int = 1) -> str:
    """Save a cross-encoder; return its folder."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    BertForSequenceClassification(_bert(num_labels=labels)).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    return str(folder)


def with_own_code(name: str, proof: Path) -> str:
    """Add code to a saved model; the code writes the file ``proof`` when it is executed."""
    folder = Path(name)
    (folder / "custom.py").write_text(_CODE.format(proof=str(proof)))
    (folder / "9_Custom").mkdir()
    (folder / "9_Custom" / "config.json").write_text("{}")
    modules = json.loads((folder / "modules.json").read_text())
    custom = {"idx": 9, "name": "9", "path": "9_Custom", "type": "custom.Custom"}
    (folder / "modules.json").write_text(json.dumps([*modules, custom]))
    return name


def _bert(**options: Any) -> Any:
    create: Any = BertConfig
    defaults = {
        "vocab_size": len(WORDS), "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64,
        "initializer_range": 0.5,
    }  # fmt: skip
    return create(**(defaults | options))


_CODE = """
from pathlib import Path

from sentence_transformers.base.modules import Module

Path({proof!r}).write_text("ran")


class Custom(Module):
    config_keys = []

    def forward(self, features):
        return features

    def save(self, *args, **kwargs):
        pass
"""
