import json
import logging
import string
from pathlib import Path

import pytest

from services.embedder import readability
from services.embedder.models.reading import Reading, Word
from services.embedder.readability import LanguageSample, Readability, TextReading, fit, measure
from tests.fakes.models import BagOfTokens, FakeModel, model_info
from tests.fakes.tokenizers import word_piece_tokenizer

SAMPLES = json.loads(Path(readability.__file__).with_name("readability_samples.json").read_text())
LATIN = ["English", "German", "French", "Spanish", "Portuguese", "Dutch", "Polish", "Turkish"]
PLAIN = string.ascii_lowercase + string.digits + string.punctuation
SPELLED = ["Russian", "Ukrainian", "Greek"]


def words(languages: list[str]) -> list[str]:
    """Every word of the samples of some languages, in lower case."""
    return [
        piece
        for one in SAMPLES
        if one["language"] in languages
        for pair in one["pairs"]
        for word in pair
        for piece in one["frame"].format(word).lower().split()
    ]


def letters(languages: list[str]) -> str:
    return "".join(sorted(set("".join(words(languages))))) + PLAIN


def english_model() -> BagOfTokens:
    """A model that knows words in Latin script, and spells out Cyrillic and Greek."""
    return BagOfTokens(word_piece_tokenizer(words(LATIN), letters([*LATIN, *SPELLED])))


def multilingual_model() -> BagOfTokens:
    languages = [one["language"] for one in SAMPLES]
    return BagOfTokens(word_piece_tokenizer(words(languages), letters(languages)))


def judge(model: BagOfTokens, text: str, limits: Readability) -> TextReading:
    [prepared] = model.prepare([text], "")
    reading = limits.judge(prepared.reading)
    assert reading
    return reading


@pytest.fixture(scope="module")
def english() -> tuple[BagOfTokens, Readability]:
    model = english_model()
    return model, Readability.for_model(model, None)


def test_what_a_model_reads_is_measured(english: tuple[BagOfTokens, Readability]) -> None:
    limits = english[1]
    assert [one.language for one in limits.samples if one.readable] == LATIN
    assert {"CYRILLIC", "GREEK", "HANGUL", "CJK", "THAI"} <= limits.unread_scripts
    assert "LATIN" not in limits.unread_scripts
    assert 1 < limits.min_characters_per_token < 3


def test_a_multilingual_model_has_no_limits() -> None:
    limits = Readability.for_model(multilingual_model(), None)
    assert all(one.readable for one in limits.samples)
    assert (limits.min_characters_per_token, limits.unread_scripts) == (0, frozenset())
    model = multilingual_model()
    for text in ("Я вижу кота", "ฉันเห็นหมา", "👍", "我看到猫", "개를 봐요"):
        assert judge(model, text, limits).readable


@pytest.mark.parametrize(
    "text",
    [
        "кота",
        "я вижу дым",
        "如何打开暗模式",
        "👍",
        "👎",
        "ሰላም",
        "비밀번호를",
        "ภาษา",
        "I кота мышку",
    ],
)
def test_texts_that_the_model_does_not_read(
    english: tuple[BagOfTokens, Readability], text: str
) -> None:
    assert not judge(english[0], text, english[1]).readable


@pytest.mark.parametrize(
    "text",
    [
        "?",
        "A1",
        "4711",
        "x-7_b",
        "https://house.com/cat?x=1",
        "I see a cat 🐈",
        "Ich sehe Bären.",
        "",
    ],
)
def test_texts_that_the_model_reads(english: tuple[BagOfTokens, Readability], text: str) -> None:
    assert judge(english[0], text, english[1]).readable


def test_the_words_that_are_not_read_are_named(english: tuple[BagOfTokens, Readability]) -> None:
    text = "I see a кота 猫 house and a lake"
    found = judge(english[0], text, english[1])
    assert found.readable
    assert [text[start:end] for start, end in found.unread][:2] == ["кота", "猫"]


def word_reading(text: str, tokens: int) -> Reading:
    return Reading(
        text, 0.0, len(text), tokens, len(text), len(text), (Word(0, len(text), 4, tokens, False),)
    )


@pytest.mark.parametrize(
    ("text", "tokens", "readable"),
    [
        ("öäüé", 2, True),
        ("öäüé", 3, False),
        ("öäüé", 1, True),
        ("I’m—", 4, True),  # the characters beyond ASCII are not letters
        ("абвг", 1, False),
        ("αβγδ", 1, True),
    ],
)
def test_a_word_is_read_by_its_script_and_its_characters_per_token(
    text: str, tokens: int, readable: bool
) -> None:
    limits = Readability(1.5, frozenset({"CYRILLIC"}))
    found = limits.judge(word_reading(text, tokens))
    assert found
    assert found.readable is readable


def sample(name: str, similarity: float, per_token: float, unknown: float = 0.0) -> LanguageSample:
    return LanguageSample(name, (name,), unknown, per_token, similarity)


def test_the_limit_lies_between_the_languages_that_are_read_and_the_others() -> None:
    limits = fit(
        [
            sample("A", 0.5, 4.0),
            sample("B", 0.8, 2.0),
            sample("C", 0.95, 1.0),
            sample("D", 1.0, 9.0, unknown=0.9),
        ]
    )
    assert limits.min_characters_per_token == 1.5
    assert limits.unread_scripts == {"C", "D"}


def test_similarities_count_relative_to_the_language_that_is_read_best() -> None:
    """Some models give all texts a cosine of .8 or more."""
    limits = fit([sample("A", 0.9, 4.0), sample("B", 0.95, 2.0), sample("C", 0.99, 1.0)])
    assert [one.readable for one in limits.samples] == [True, True, False]


def test_a_script_is_read_if_one_of_its_languages_is() -> None:
    one, other = sample("A", 0.5, 4.0), sample("A", 1.0, 1.0)
    assert fit([one, other]).unread_scripts == frozenset()
    assert fit([]) == Readability()


def test_measurements_are_stored_by_digest(tmp_path: Path) -> None:
    first = Readability.for_model(english_model(), tmp_path)
    again = multilingual_model()
    assert Readability.for_model(again, tmp_path) == first
    assert not again.prepared
    other = BagOfTokens(
        word_piece_tokenizer(words(["English"])), model_info("text", digest="e" * 64)
    )
    assert Readability.for_model(other, tmp_path) != first


@pytest.mark.parametrize("content", ["", "[", "[1]", '[{"language": "x"}]', "{}"])
def test_a_damaged_file_is_measured_again(tmp_path: Path, content: str) -> None:
    first = Readability.for_model(english_model(), tmp_path)
    [file] = tmp_path.rglob("*.json")
    file.write_text(content)
    assert Readability.for_model(english_model(), tmp_path) == first


def test_a_folder_that_cannot_be_written_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        assert Readability.for_model(english_model(), tmp_path / "file").unread_scripts
    assert "could not store the readability" in caplog.text


def test_models_without_texts_or_without_a_tokenizer_have_no_limits() -> None:
    assert Readability.for_model(FakeModel(model_info("image")), None) == Readability()
    assert measure(FakeModel()) == []
    assert Readability().judge(None) is None


def test_every_language_is_measured_on_pairs_that_differ() -> None:
    assert len(SAMPLES) >= 20
    for one in SAMPLES:
        assert "{}" in one["frame"]
        assert len(one["pairs"]) == 6
        assert all(len({*pair}) == 2 for pair in one["pairs"])
