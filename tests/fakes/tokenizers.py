"""Tokenizers that need no downloads: of letters, and of words."""

from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CLS, SEP, UNKNOWN = 1, 2, 3


def letter_tokenizer() -> Tokenizer:
    """Return a tokenizer with one token for each letter; [CLS] and [SEP] surround a text."""
    vocabulary = {token: n for n, token in enumerate(["[PAD]", "[CLS]", "[SEP]", *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    return tokenizer


def word_piece_tokenizer(words: Iterable[str], letters: str = "") -> Tokenizer:
    """Return a tokenizer that knows whole words, spells others in ``letters``, or uses [UNK]."""
    pieces = [*words, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {
        token: n
        for n, token in enumerate(dict.fromkeys(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *pieces]))
    }
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return tokenizer
