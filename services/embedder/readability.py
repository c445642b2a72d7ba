"""Measures which texts a model can read, when the model is first loaded.

A model is measured on pairs of short sentences in many languages. The sentences of a pair mean
different things and have a similar spelling: "I see a cat." and "I see a hat." If a model reads a
language, their vectors are far apart. If it reads letters instead of words, they are near each
other, and if its vocabulary lacks the characters, they are equal. The result is stored under the
model's digest.
"""

import dataclasses
import functools
import json
import logging
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from services.embedder.models.model import Model, PreparedInput
from services.embedder.models.reading import Reading, Word

log = logging.getLogger(__name__)

_SAMPLES = Path(__file__).with_name("readability_samples.json")
# Increment it when the samples or the measurement change.
_VERSION = 1
# The model reads a language if the pairs are this far apart, relative to the pairs of the language
# that the model separates best. For all-MiniLM-L6-v2, all languages in Latin script reach .35 or
# more, and all other languages .22 or less.
MIN_RELATIVE_SEPARATION = 0.3
# A text is readable if at most this share of its characters is in unread words.
MAX_UNREAD_SHARE = 0.5
# Samples with more unknown tokens say nothing about the length of known tokens.
_MAX_UNKNOWN_SHARE = 0.1


@dataclass(frozen=True)
class LanguageSample:
    """The measurement of one language.

    Attributes:
        scripts: the scripts of the words that differ, as Unicode names them.
        unknown_share: share of the tokens that are unknown to the model.
        characters_per_token: mean number of characters that a token covers.
        similarity: median cosine similarity of two sentences that mean different things.
        readable: whether the model separates them.
    """

    language: str
    scripts: tuple[str, ...]
    unknown_share: float
    characters_per_token: float
    similarity: float
    readable: bool = True


class TextReading(NamedTuple):
    """How much of a text a model reads.

    Attributes:
        unknown_share: share of its tokens that are unknown to the model.
        characters_per_token: mean number of characters that a token covers.
        end: the code point at which the model stops reading.
        length: number of code points in the text.
        readable: whether the model reads enough of it to compare it with other texts.
        unread: start and end of each word before ``end`` that the model does not read.
    """

    unknown_share: float
    characters_per_token: float
    end: int
    length: int
    readable: bool
    unread: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Readability:
    """What a model reads.

    It does not read a word that has an unknown token, a letter of an unread script, or too few
    characters per token. The last condition applies only to words with a letter beyond ASCII,
    because every tokenizer splits codes, identifiers and punctuation into short tokens.

    Attributes:
        min_characters_per_token: minimum for a word of several tokens; 0 for no minimum.
        unread_scripts: the measured scripts that the model does not read.
        samples: the measurements.
    """

    min_characters_per_token: float = 0.0
    unread_scripts: frozenset[str] = frozenset()
    samples: tuple[LanguageSample, ...] = ()

    @classmethod
    def for_model(cls, model: Model, cache_folder: Path | None) -> "Readability":
        """Read a model's measurements from ``cache_folder``, or measure it and store the result.

        A failure to store it is only logged. A model that takes no text has no limits.
        """
        if "text" not in model.info.modalities:
            return cls()
        file = _file(cache_folder, model.info.digest) if cache_folder else None
        samples = _load(file) if file else []
        if not samples:
            samples = measure(model)
            if file and samples:
                _save(file, samples)
        return fit(samples)

    def judge(self, reading: Reading | None) -> TextReading | None:
        """Return how much of a text the model reads; None for an input that is not a text."""
        if reading is None:
            return None
        unread = [word for word in reading.words if self._is_unread(word, reading.text)]
        unread_characters = sum(word.characters for word in unread)
        return TextReading(
            reading.unknown_share,
            reading.characters / reading.tokens,
            reading.end,
            reading.length,
            unread_characters <= MAX_UNREAD_SHARE * reading.characters,
            tuple((word.start, word.end) for word in unread),
        )

    def _is_unread(self, word: Word, text: str) -> bool:
        if word.unknown:
            return True
        characters = text[word.start : word.end]
        scripts = set() if characters.isascii() else {*map(script, characters)} - {""}
        if not scripts:
            return False
        is_spelled = word.characters < self.min_characters_per_token * word.tokens
        return (word.tokens > 1 and is_spelled) or not scripts.isdisjoint(self.unread_scripts)


def measure(model: Model) -> list[LanguageSample]:
    """Measure a model on the samples of all languages; return nothing if it has no tokenizer."""
    samples = []
    for one in json.loads(_SAMPLES.read_text("utf-8")):
        words = [word for pair in one["pairs"] for word in pair]
        inputs = model.prepare([one["frame"].format(word) for word in words], "")
        readings = [value.reading for value in inputs if value.reading]
        if len(readings) < len(inputs):
            return []
        tokens = sum(reading.tokens for reading in readings)
        samples.append(
            LanguageSample(
                one["language"],
                tuple(sorted({script(letter) for word in words for letter in word} - {""})),
                sum(reading.unknown_share * reading.tokens for reading in readings) / tokens,
                sum(reading.characters for reading in readings) / tokens,
                _median_similarity(model, inputs),
            )
        )
    return samples


def fit(samples: Sequence[LanguageSample]) -> Readability:
    """Decide which languages are read, and find the limits that best agree with that."""
    separation = {sample: 1 - sample.similarity for sample in samples}
    threshold = MIN_RELATIVE_SEPARATION * max(separation.values(), default=0.0)
    margins = {sample: value - threshold for sample, value in separation.items()}
    judged = tuple(dataclasses.replace(one, readable=margins[one] >= 0) for one in samples)
    scripts = {name for one in judged for name in one.scripts}
    read = {name for one in judged if one.readable for name in one.scripts}
    known = [one for one in samples if one.unknown_share <= _MAX_UNKNOWN_SHARE]
    lengths = sorted({one.characters_per_token for one in known})

    def cost(limit: float) -> float:
        """Sum the margins of the languages that a limit misjudges."""
        wrong = [one for one in known if (one.characters_per_token >= limit) != (margins[one] >= 0)]
        return sum(abs(margins[one]) for one in wrong)

    limits = [0.0, *((low + high) / 2 for low, high in pairwise(lengths))]
    return Readability(min(limits, key=cost), frozenset(scripts - read), judged)


@functools.lru_cache(maxsize=4096)
def script(character: str) -> str:
    """Return the script of a letter beyond ASCII (the start of its Unicode name), or ""."""
    if character.isascii() or not character.isalpha():
        return ""
    return re.split("[ -]", unicodedata.name(character, ""), maxsplit=1)[0]


def _median_similarity(model: Model, inputs: Sequence[PreparedInput]) -> float:
    """Return the median cosine of inputs 0 and 1, 2 and 3, and so on."""
    vectors = model.encode(inputs)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return float(np.median((vectors[::2] * vectors[1::2]).sum(1)))


def _file(cache_folder: Path, digest: str) -> Path:
    return cache_folder.expanduser() / digest[:32] / f"readability-{_VERSION}.json"


def _load(file: Path) -> list[LanguageSample]:
    """Read stored measurements; return nothing if the file is missing or damaged."""
    try:
        return [
            LanguageSample(**{**one, "scripts": tuple(one["scripts"])})
            for one in json.loads(file.read_text("utf-8"))
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _save(file: Path, samples: Sequence[LanguageSample]) -> None:
    temporary = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(list(map(dataclasses.asdict, samples)), indent=1), "utf-8")
        temporary.replace(file)
    except OSError as error:
        log.warning("could not store the readability: %s", error, extra={"file": str(file)})
