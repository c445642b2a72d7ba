"""Writes answers without a language model: quotes what answers the question best."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.errors import FailedPrecondition
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.rag.citations import cite
from services.gateway.rag.ingest.segmentation import Span
from services.gateway.rag.question_words import QuestionWords, weights
from services.gateway.rag.types import Draft, Passage, WriteRequest
from services.gateway.rag.units import Unit, units

_NOT_WORDS = re.compile(r"\W+")
MAX_QUOTES = 3
MAX_UNITS = 48
MAX_CHARACTERS = 2**15
# How much the words of the question count beside the cosine.
WORD_WEIGHT = 0.4
# A unit is quoted beside the best one if its score is at least this share of the best score. It
# must also have another word of the question, or the same words and about the same cosine.
MIN_RELATIVE_SCORE = 0.7
MAX_COSINE_LOSS = 0.12
# The share of the question's words that count as another word.
MIN_NEW_WORDS = 0.15


@dataclass(frozen=True)
class _Candidate:
    """A unit of a passage, and the words of the question in it, its context and its title."""

    passage: Passage
    unit: Unit
    found: frozenset[str]


class ExtractiveWriter:
    """Quotes sentences, rows of tables and code after a fixed opening."""

    OPENING = "No language model is set; these sentences answer best:"

    def __init__(self, embedder: EmbedderClient) -> None:
        self._embedder = embedder

    def author(self, model: str) -> str:
        """Return the name of the extractive writer.

        Raises:
            FailedPrecondition: ``model`` names a language model.
        """
        if model:
            raise FailedPrecondition(
                "NO_LANGUAGE_MODEL",
                "No language model is configured. Leave model empty, or set MEMETWIN_LLM_BASE_URL.",
                field="model",
            )
        return "extractive-2"

    async def write(
        self, request: WriteRequest, passages: Sequence[Passage]
    ) -> AsyncIterator[str | Draft]:
        """Yield the best units in the order of their passages, then the Draft."""
        question = QuestionWords(request.question)
        candidates = await _candidates(question, passages)
        texts = [one.unit.embedded_text(one.passage.title) for one in candidates]
        rows = (await self._embedder.embed_documents(texts)).rows
        best = _choose(candidates, rows @ request.vector, question.stems)
        draft = _quote([candidates[number] for number in sorted(best)], passages)
        yield draft.text
        yield draft


async def _candidates(question: QuestionWords, passages: Sequence[Passage]) -> list[_Candidate]:
    """Return the units to compare, those with most words of the question first.

    Units with the same words as an earlier one are left out.
    """
    known: set[str] = set()
    candidates: list[_Candidate] = []
    characters = 0
    for passage in passages:
        if characters > MAX_CHARACTERS:
            break
        characters += len(passage.text)
        for unit in units(passage.text, passage.title, passage.section):
            key = _NOT_WORDS.sub(" ", unit.whole_text).strip().casefold() or unit.text
            if key not in known:
                known.add(key)
                found = question.found_in(unit.embedded_text(passage.title))
                candidates.append(_Candidate(passage, unit, found))
        await asyncio.sleep(0)  # other tasks run
    candidates = [one for one in candidates if not one.unit.is_title] or candidates
    candidates = candidates or [_whole(passage) for passage in passages[:1]]
    chosen = sorted(range(len(candidates)), key=lambda at: -len(candidates[at].found))[:MAX_UNITS]
    return [candidates[at] for at in sorted(chosen)]


def _whole(passage: Passage) -> _Candidate:
    """Return a passage without words as one unit."""
    unit = Unit(Span(0, len(passage.text)), passage.text)
    return _Candidate(passage, unit, frozenset())


def _choose(
    candidates: Sequence[_Candidate], cosines: NDArray[np.float32], stems: frozenset[str]
) -> list[int]:
    """Return the numbers of one to ``MAX_QUOTES`` candidates, best first."""
    weight = weights(stems, [one.found for one in candidates])
    shares = [sum(weight[one] for one in candidate.found) for candidate in candidates]
    scores = cosines + WORD_WEIGHT * np.array(shares, np.float32)
    ranked = sorted(range(len(candidates)), key=lambda number: -float(scores[number]))
    best = ranked[:1]
    covered = candidates[best[0]].found
    for number in ranked[1:]:
        if len(best) == MAX_QUOTES or scores[number] < MIN_RELATIVE_SCORE * scores[best[0]]:
            break
        added = sum(weight[one] for one in candidates[number].found - covered)
        is_near = cosines[number] >= cosines[best[0]] - MAX_COSINE_LOSS
        is_near = is_near and not candidates[number].unit.is_code
        if added >= MIN_NEW_WORDS or (
            is_near and candidates[number].found >= candidates[best[0]].found
        ):
            best.append(number)
            covered |= candidates[number].found
    return best


def _quote(chosen: Sequence[_Candidate], passages: Sequence[Passage]) -> Draft:
    """Return the quotes after the opening. Rows of one table share its header."""
    text, citations = ExtractiveWriter.OPENING, []
    header = ""
    for one in chosen:
        unit = one.unit
        text += "\n“" if unit.is_code or unit.header else " “"
        if unit.header and unit.header != header:
            text += f"{unit.header}\n"
        citations.append(cite(one.passage, unit.span, Span(len(text), len(text) + len(unit.text))))
        text += f"{unit.text}”"
        header = unit.header
    return Draft(text, citations, list(passages))
