"""Grounds the answers of a language model: checks each sentence against the passages it cites."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

from prometheus_client import Counter

from services.gateway.rag.citations import cite_statements, statements
from services.gateway.rag.grounding.checks import Finding, PassageText, check
from services.gateway.rag.grounding.gate import SentenceGate
from services.gateway.rag.grounding.sentence import Sentence
from services.gateway.rag.grounding.support import Support
from services.gateway.rag.ingest.segmentation import sentences
from services.gateway.rag.stepwise import stepwise
from services.gateway.rag.types import Citation, GroundingMode, Passage, Unsupported

# Longer sentences are tables or code. The rest of them is not checked.
MAX_CHARACTERS = 2000
# How many statements of an answer are judged by meaning. Others keep the verdict of their words.
MAX_BY_MEANING = 16
_STEP = 8  # sentences of a passage that take about a millisecond
_STATEMENTS = Counter(
    "memetwin_rag_statements_total",
    "Sentences of language models' answers by verdict: supported, or why not.",
    ["verdict"],
)


class Grounding:
    """Creates the checks of answers."""

    def __init__(self, support: Support) -> None:
        self._support = support

    def begin(self, passages: Sequence[Passage], mode: GroundingMode) -> "GroundedAnswer":
        """Return the check of one answer from these passages, which are numbered from 1."""
        return GroundedAnswer(passages, self._support, mode)


class GroundedAnswer:
    """Checks an answer that arrives in pieces.

    Attributes:
        withheld: how many sentences were dropped.
    """

    def __init__(self, passages: Sequence[Passage], support: Support, mode: GroundingMode) -> None:
        self._passages = passages
        self._support = support
        self._mode = mode
        self._gate = SentenceGate()
        self._texts: dict[int, PassageText] = {}
        self._merged: dict[tuple[int, ...], PassageText] = {}
        self._findings: dict[tuple[str, tuple[int, ...]], Finding | None] = {}
        self._by_meaning = 0
        self.withheld = 0

    async def feed(self, piece: str) -> str:
        """Add a piece of the answer; return the text to send, which lacks dropped sentences."""
        return piece if self._mode != "drop" else await self._supported(self._gate.feed(piece))

    async def flush(self) -> str:
        """Return the rest of the text to send."""
        return "" if self._mode != "drop" else await self._supported(self._gate.flush())

    async def cite(self, text: str) -> tuple[list[Citation], list[Unsupported]]:
        """Return the citations of the whole text that was sent, and its unsupported sentences."""
        citations: list[Citation] = []
        unsupported: list[Unsupported] = []
        for one in statements(text, len(self._passages)):
            finding = Finding("no_citation")
            supported = None
            if one.numbers and self._mode != "off":
                found = await self._finding(one.span.of(text), one.numbers)
                supported = found is None
                finding = found or finding
                _STATEMENTS.labels(found.reason if found else "supported").inc()
            if not (supported or (one.numbers and self._mode == "off")):
                unsupported.append(
                    Unsupported(one.span.start, one.span.end, finding.reason, finding.detail)
                )
            citations += [
                replace(citation, supported=supported)
                for citation in cite_statements([one], self._passages)
            ]
        return citations, unsupported

    async def _supported(self, whole: Iterable[str]) -> str:
        """Return the sentences that the passages support.

        A sentence without a citation may rest on any passage.
        """
        passed = []
        for text in whole:
            parts = statements(text, len(self._passages))
            everything = tuple(range(1, len(self._passages) + 1))
            findings = [
                await self._finding(one.span.of(text), one.numbers or everything) for one in parts
            ]
            if any(findings):
                self.withheld += 1
                _STATEMENTS.labels("dropped").inc()
            else:
                passed.append(text)
        return "".join(passed)

    async def _finding(self, text: str, numbers: tuple[int, ...]) -> Finding | None:
        key = text, numbers
        if key not in self._findings:
            self._findings[key] = await self._judge(text, numbers)
        return self._findings[key]

    async def _judge(self, text: str, numbers: tuple[int, ...]) -> Finding | None:
        await asyncio.sleep(0)  # other tasks run
        statement = Sentence.of_answer(text[:MAX_CHARACTERS])
        cited = await self._merge(numbers)
        others = [
            await self._read(number)
            for number in range(1, len(self._passages) + 1)
            if number not in numbers
        ]
        finding = check(statement, cited, others)
        if not finding or finding.reason != "not_found" or self._by_meaning == MAX_BY_MEANING:
            return finding
        self._by_meaning += 1
        if await self._support.supports(
            statement.text, _likeliest(statement, [cited]), _likeliest(statement, others)
        ):
            # The meaning is there. Numbers, names and negations are checked all the same.
            return check(statement, cited, others, is_found=True)
        return finding

    async def _merge(self, numbers: tuple[int, ...]) -> PassageText:
        """Return the sentences of several passages as one text."""
        if numbers not in self._merged:
            read = [await self._read(number) for number in dict.fromkeys(numbers)]
            whole = PassageText([sentence for one in read for sentence in one.sentences])
            self._merged[numbers] = whole
        return self._merged[numbers]

    async def _read(self, number: int) -> PassageText:
        """Return the sentences of a passage, with its title and section. Other tasks may run."""
        if number not in self._texts:
            passage = self._passages[number - 1]
            spans = sentences(passage.text)
            texts = [passage.title, passage.section, *(span.of(passage.text) for span in spans)]
            read = [Sentence(text) for text in texts if text]
            async for one in stepwise(read, _STEP):
                _ = one.stems, one.numbers, one.names
            self._texts[number] = PassageText(read)
        return self._texts[number]


def _likeliest(statement: Sentence, passages: Sequence[PassageText]) -> list[str]:
    """Return the sentences of passages, those with most words of the statement first."""
    found = [one for passage in passages for one in passage.sentences]
    found.sort(key=lambda one: -len(statement.stems & one.stems))
    return [one.text for one in found]
