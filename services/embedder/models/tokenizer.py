"""The tokenizer of a model, used by several threads at the same time."""

import copy
import threading
from typing import Any

from tokenizers import Tokenizer

from services.embedder.models.model import ModelLoadError

# No token is longer than this many characters, so a longer text cannot fit into the token limit.
MAX_CHARACTERS_PER_TOKEN = 250
# Tokenizers without a limit report an absurdly large one.
_NO_LIMIT, _DEFAULT_LIMIT = 1_000_000, 512
# The time and the memory of attention grow with the square of a text's length.
MAX_LIMIT = 8192


class PerThreadTokenizer:
    """Gives each thread a copy of a tokenizer, configured once.

    A tokenizer that threads share fails with "Already borrowed"
    (https://github.com/huggingface/transformers/issues/47085).

    Args:
        tokenizer: the tokenizer to copy, without padding.
        max_tokens: longer texts are truncated to this; None does not truncate.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int | None = None) -> None:
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        self._thread = threading.local()

    def get(self) -> Tokenizer:
        """Return the copy of the calling thread."""
        own: Tokenizer | None = getattr(self._thread, "tokenizer", None)
        if own is None:
            own = self._thread.tokenizer = copy.deepcopy(self._tokenizer)
            own.no_padding()
            own.no_truncation()
            if self._max_tokens is not None:
                own.enable_truncation(self._max_tokens)
        return own


def fast_tokenizer(model: Any) -> Tokenizer:
    """Return a model's tokenizer without the wrapper of transformers.

    Raises:
        ModelLoadError: the model has no tokenizer.json.
    """
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    if not isinstance(tokenizer, Tokenizer):
        raise ModelLoadError("the model has no fast tokenizer (tokenizer.json)")
    return tokenizer


def unknown_token(model: Any) -> int | None:
    """Return the id of a model's token for unknown characters, or None if it has none."""
    token = getattr(model.tokenizer, "unk_token_id", None)
    return None if token is None else int(token)


def token_limit(model: Any) -> int:
    """Return the maximum number of tokens that a model reads, up to ``MAX_LIMIT``."""
    limit = int(model.max_seq_length or 0)
    return min(limit, MAX_LIMIT) if 0 < limit < _NO_LIMIT else _DEFAULT_LIMIT
