from typing import Any

import pytest
from tokenizers import Tokenizer

from services.embedder.models.reading import Reader, Reading
from tests.fakes.tokenizers import CLS, UNKNOWN, word_piece_tokenizer

WORDS = ["i", "see", "a", "cat", "##."]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return word_piece_tokenizer(WORDS, "кот")


def read(tokenizer: Tokenizer, text: str, prompt: str = "", **options: Any) -> Reading:
    encoding = tokenizer.encode(prompt + text)
    truncated = bool(encoding.overflowing)
    return Reader(tokenizer, UNKNOWN).read(
        encoding, text, prompt_length=len(prompt), truncated=truncated, **options
    )


def test_plain_text_has_no_words_to_judge(tokenizer: Tokenizer) -> None:
    reading = read(tokenizer, "I  see a cat.")
    assert reading == Reading("", 0.0, 9, 5, 13, 13, ())


def test_words_have_their_tokens_and_say_whether_one_is_unknown(tokenizer: Tokenizer) -> None:
    reading = read(tokenizer, "I see кот, 猫 a cat")
    assert [(word.start, word.end, word.tokens, word.unknown) for word in reading.words] == [
        (0, 1, 1, False),
        (2, 5, 1, False),
        (6, 10, 1, True),  # the comma is unknown, and so is the word
        (11, 12, 1, True),
        (13, 14, 1, False),
        (15, 18, 1, False),
    ]
    assert reading.unknown_share == pytest.approx(2 / 6)
    assert reading.characters / reading.tokens == pytest.approx(13 / 6)


def test_an_unknown_word_of_plain_letters_is_found(tokenizer: Tokenizer) -> None:
    [word] = read(tokenizer, "dog").words
    assert word.unknown
    assert read(tokenizer, "dog").unknown_share == 1


def test_marks_and_invisible_characters_are_not_counted(tokenizer: Tokenizer) -> None:
    assert read(tokenizer, "ко\u0301т ❤\ufe0f").characters == 4


def test_the_prompt_before_a_text_is_not_a_part_of_it(tokenizer: Tokenizer) -> None:
    [word] = read(tokenizer, "кот", prompt="see a ").words
    assert (word.start, word.end, word.tokens) == (0, 3, 3)


@pytest.mark.parametrize(("text", "end"), [("I see a cat", 5), ("I кот a cat", 3), ("I 猫 a", 3)])
def test_reading_ends_where_the_text_is_cut(tokenizer: Tokenizer, text: str, end: int) -> None:
    tokenizer.enable_truncation(4)
    reading = read(tokenizer, text)
    assert (reading.end, reading.length) == (end, len(text))
    assert all(word.end <= end for word in reading.words)


def test_a_prompt_may_leave_no_room_for_the_text(tokenizer: Tokenizer) -> None:
    tokenizer.enable_truncation(4)
    assert read(tokenizer, "кот", prompt="see a cat. ").end == 0


def test_a_token_that_ends_every_text_does_not_stand_for_unknown_characters(
    tokenizer: Tokenizer,
) -> None:
    reading = Reader(tokenizer, CLS).read(
        tokenizer.encode("猫"), "猫", prompt_length=0, truncated=False
    )
    assert not reading.unknown_share
    assert (
        not Reader(tokenizer, None)
        .read(tokenizer.encode("猫"), "猫", prompt_length=0, truncated=False)
        .words[0]
        .unknown
    )
