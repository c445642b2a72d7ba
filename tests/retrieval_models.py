"""Small copies of models for retrieval: the real classes and layouts of files, with random weights.

Each has the modules, the kind of tokenizer and the configured prompts of the original's repository.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    BertConfig,
    BertModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    NomicBertConfig,
    NomicBertModel,
    Qwen3Config,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaModel,
)

INSTRUCTION = "Represent this sentence for searching relevant passages: "
WEB_SEARCH = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
)
_CORPUS = [
    "query: passage: search_query: search_document: " + INSTRUCTION + WEB_SEARCH,
    "What is the capital of France? Paris is the capital and the largest city of France.",
    "Wo steht der Eiffelturm? ¿Dónde está la torre? Où se trouve la tour Eiffel?",
    "Где находится Эйфелева башня? 埃菲尔铁塔在哪里? एफिल टावर कहाँ है?",
    "the and of to in a is that it was for on are with as at by from or an be this which have",
]
_SIZE: Any = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}


@dataclass(frozen=True)
class Original:
    """What a repository holds.

    Attributes:
        create: makes the transformer for a vocabulary and the id of the padding token.
        tokenizer: makes the tokenizer.
        pooling: the key of the pooling's configuration.
        max_tokens: the limit in ``sentence_bert_config.json``; None if the file has none.
        prompts: those of ``config_sentence_transformers.json``; None without the file.
        query: the prompt of queries, from the configuration or from the model's card.
        document: the prompt of documents.
        normalize: whether the modules end with a normalisation.
        dtype: the data type of the weights.
        padding_side: the side that the tokenizer pads.
    """

    create: Callable[[int, int], Any]
    tokenizer: Callable[[], Tokenizer]
    pooling: str
    max_tokens: int | None
    prompts: Mapping[str, str] | None
    query: str = ""
    document: str = ""
    normalize: bool = True
    dtype: torch.dtype = torch.float32
    padding_side: str = "right"


def word_piece() -> Tokenizer:
    """Return a tokenizer like BERT's: lower case, word pieces."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    _train(tokenizer, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special))
    return _surrounded(tokenizer, "[CLS]", "[SEP]")


def sentence_piece() -> Tokenizer:
    """Return a tokenizer like XLM-RoBERTa's: a unigram model over text with marks for spaces."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer: Any = trainers.UnigramTrainer
    _train(tokenizer, trainer(vocab_size=500, special_tokens=special, unk_token="<unk>"))
    return _surrounded(tokenizer, "<s>", "</s>")


def byte_pairs(start: str, end: str, padding: str) -> Tokenizer:
    """Return a tokenizer like ModernBERT's and Qwen's: pairs of bytes, no unknown token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = list(dict.fromkeys(filter(None, [padding, start, end])))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    _train(tokenizer, trainer)
    return _surrounded(tokenizer, start, end)


def _train(tokenizer: Tokenizer, trainer: Any) -> None:
    tokenizer.train_from_iterator(_CORPUS, trainer)


def _surrounded(tokenizer: Tokenizer, start: str, end: str) -> Tokenizer:
    used = [token for token in (start, end) if token]
    template = " ".join(filter(None, [start, "$A", end]))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, tokenizer.token_to_id(token)) for token in used]
    )
    return tokenizer


def _bert(words: int, padding: int) -> Any:
    del padding  # the originals keep BERT's 0 in their configuration
    return BertModel(BertConfig(vocab_size=words, intermediate_size=128, **_SIZE))


def _xlm_roberta(positions: int) -> Callable[[int, int], Any]:
    def create(words: int, padding: int) -> Any:
        config = XLMRobertaConfig(
            vocab_size=words, intermediate_size=128, max_position_embeddings=positions,
            type_vocab_size=1, pad_token_id=padding, bos_token_id=0, eos_token_id=2, **_SIZE,
        )  # fmt: skip
        return XLMRobertaModel(config)

    return create


def _modern_bert(words: int, padding: int) -> Any:
    ends: Any = {"bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
    config = ModernBertConfig(
        vocab_size=words, intermediate_size=96, pad_token_id=padding, **ends, **_SIZE
    )
    return ModernBertModel(config)


def _nomic_bert(words: int, padding: int) -> Any:
    config = NomicBertConfig(
        vocab_size=words, intermediate_size=128, pad_token_id=padding,
        max_position_embeddings=8192, **_SIZE,
    )  # fmt: skip
    return NomicBertModel(config)


def _mpnet(words: int, padding: int) -> Any:
    config = MPNetConfig(
        vocab_size=words, intermediate_size=128, max_position_embeddings=514,
        pad_token_id=padding, bos_token_id=0, eos_token_id=2, **_SIZE,
    )  # fmt: skip
    return MPNetModel(config)


def _qwen3(words: int, padding: int) -> Any:
    config = Qwen3Config(
        vocab_size=words, intermediate_size=128, num_key_value_heads=2, head_dim=32,
        max_position_embeddings=32768, eos_token_id=padding, **_SIZE,
    )  # fmt: skip
    return Qwen3Model(config)


def _modern_bert_tokenizer() -> Tokenizer:
    return byte_pairs("[CLS]", "[SEP]", "[PAD]")


def _qwen_tokenizer() -> Tokenizer:
    return byte_pairs("", "<|endoftext|>", "<|endoftext|>")


_PADDING = ("[PAD]", "<pad>", "<|endoftext|>")
_MEAN, _CLS, _LAST = "mean_tokens", "cls_token", "lasttoken"
ORIGINALS = {
    "intfloat/multilingual-e5-small": Original(
        _bert, sentence_piece, _MEAN, 512, None, "query: ", "passage: "
    ),
    "intfloat/multilingual-e5-base": Original(
        _xlm_roberta(514), sentence_piece, _MEAN, 512, None, "query: ", "passage: "
    ),
    "BAAI/bge-small-en-v1.5": Original(_bert, word_piece, _CLS, 512, {}, INSTRUCTION),
    "BAAI/bge-m3": Original(_xlm_roberta(8194), sentence_piece, _CLS, 8192, {}),
    "ibm-granite/granite-embedding-small-english-r2": Original(
        _modern_bert, _modern_bert_tokenizer, _CLS, 8192, {}, dtype=torch.bfloat16
    ),
    "Alibaba-NLP/gte-modernbert-base": Original(
        _modern_bert, _modern_bert_tokenizer, _CLS, 8192, {}, normalize=False, dtype=torch.float16
    ),
    "nomic-ai/nomic-embed-text-v1.5": Original(
        _nomic_bert, word_piece, _MEAN, 8192, None, "search_query: ", "search_document: ",
        normalize=False,
    ),
    "nomic-ai/modernbert-embed-base": Original(
        _modern_bert, _modern_bert_tokenizer, _MEAN, 8192, {}, "search_query: ",
        "search_document: ",
    ),
    "Snowflake/snowflake-arctic-embed-s": Original(
        _bert, word_piece, _CLS, 512, {"query": INSTRUCTION}, INSTRUCTION
    ),
    "Snowflake/snowflake-arctic-embed-l-v2.0": Original(
        _xlm_roberta(8194), sentence_piece, _CLS, 8192, {"query": "query: "}, "query: "
    ),
    "Qwen/Qwen3-Embedding-0.6B": Original(
        _qwen3, _qwen_tokenizer, _LAST, None, {"query": WEB_SEARCH, "document": ""}, WEB_SEARCH,
        dtype=torch.bfloat16, padding_side="left",
    ),
    "sentence-transformers/all-mpnet-base-v2": Original(
        _mpnet, sentence_piece, _MEAN, 384, None
    ),
}  # fmt: skip


def save(name: str, folder: Path) -> str:
    """Save the small copy of a model in a folder of the original's name; return the folder."""
    original, folder = ORIGINALS[name], folder / name
    folder.mkdir(parents=True)
    tokenizer = original.tokenizer()
    padding = next(one for one in _PADDING if tokenizer.token_to_id(one) is not None)
    padding_id = tokenizer.token_to_id(padding) or 0
    torch.manual_seed(0)
    model = original.create(tokenizer.get_vocab_size(), padding_id)
    with torch.no_grad():  # vectors of layers as random as those of a new model are all alike
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    model.to(original.dtype).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(folder / "tokenizer_config.json", _tokenizer_config(original, tokenizer, padding))
    modules = ["Transformer", "Pooling", "Normalize"][: 2 + original.normalize]
    _write(
        folder / "modules.json",
        [
            {
                "idx": at, "name": str(at), "path": f"{at}_{kind}" if at else "",
                "type": f"sentence_transformers.models.{kind}",
            }
            for at, kind in enumerate(modules)
        ],
    )  # fmt: skip
    _write(folder / "1_Pooling" / "config.json", _pooling(original.pooling))
    if original.max_tokens:
        limits = {"max_seq_length": original.max_tokens, "do_lower_case": False}
        _write(folder / "sentence_bert_config.json", limits)
    if original.prompts is not None:
        configured = {"prompts": original.prompts, "default_prompt_name": None}
        _write(folder / "config_sentence_transformers.json", configured)
    return str(folder)


def _pooling(mode: str) -> dict[str, Any]:
    modes = ("cls_token", "mean_tokens", "max_tokens", "lasttoken")
    chosen = {f"pooling_mode_{one}": one == mode for one in modes}
    return {"word_embedding_dimension": _SIZE["hidden_size"], **chosen, "include_prompt": True}


def _tokenizer_config(original: Original, tokenizer: Tokenizer, padding: str) -> dict[str, Any]:
    unknown = next((one for one in ("[UNK]", "<unk>") if tokenizer.token_to_id(one)), None)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": padding,
        "padding_side": original.padding_side,
        "model_max_length": original.max_tokens or 131_072,
    } | ({"unk_token": unknown} if unknown else {})


def _write(file: Path, content: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content, ensure_ascii=False))
