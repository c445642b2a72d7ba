"""Models of real classes with two layers and random weights, saved as users have them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import (
    BertConfig,
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


def bert(folder: Path, words: Sequence[str]) -> Path:
    """Save a BERT of sentence-transformers that knows these words; return where."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    torch.manual_seed(0)
    make: Any = BertConfig
    config = make(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder / "plain")
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder / "plain")
    transformer: Any = Transformer(str(folder / "plain"))
    modules = [transformer, Pooling(transformer.get_embedding_dimension())]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"))
    return folder / "model"
