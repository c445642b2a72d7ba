from types import SimpleNamespace

import pytest

from services.embedder.models.model import ModelLoadError
from services.embedder.models.tokenizer import PerThreadTokenizer, fast_tokenizer, token_limit
from tests.fakes.threads import in_new_thread
from tests.fakes.tokenizers import letter_tokenizer


def test_each_thread_has_one_copy() -> None:
    shared = letter_tokenizer()
    tokenizer = PerThreadTokenizer(shared)
    own = tokenizer.get()
    assert own is tokenizer.get()
    assert own is not shared
    assert in_new_thread(tokenizer.get) is not own


def test_padding_and_truncation_are_set_anew() -> None:
    shared = letter_tokenizer()
    shared.enable_padding(length=20)
    shared.enable_truncation(3)
    assert len(PerThreadTokenizer(shared).get().encode("abcdefgh").ids) == 10
    assert len(PerThreadTokenizer(shared, 5).get().encode("abcdefgh").ids) == 5
    assert shared.truncation


def test_only_a_fast_tokenizer_is_accepted() -> None:
    tokenizer = letter_tokenizer()
    wrapper = SimpleNamespace(backend_tokenizer=tokenizer)
    assert fast_tokenizer(SimpleNamespace(tokenizer=wrapper)) is tokenizer
    with pytest.raises(ModelLoadError, match=r"no fast tokenizer \(tokenizer.json\)"):
        fast_tokenizer(SimpleNamespace(tokenizer=object()))


@pytest.mark.parametrize(
    ("reported", "expected"), [(256, 256), (32_768, 8192), (None, 512), (0, 512), (int(1e30), 512)]
)
def test_an_absurd_limit_is_replaced(reported: int | None, expected: int) -> None:
    assert token_limit(SimpleNamespace(max_seq_length=reported)) == expected
