"""Measures the grounding of answers: misquotes that it catches, and faithful sentences it flags."""

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from services.gateway.rag.grounding.checks import Finding, PassageText, check
from services.gateway.rag.grounding.sentence import Sentence
from services.gateway.rag.ingest.segmentation import sentences
from tests.bench.misquotes import MISQUOTED, REWORDED
from tests.conftest import data_folder

PASSAGES = 8
OF_A_KIND = 50
DOCUMENTS = 400


@dataclass(frozen=True)
class Document:
    title: str
    sentences: list[str]


class AnswerSampler:
    """Sentences of answers from documents; each document comes with its nearest neighbours."""

    def __init__(self, documents: Sequence[Document], chosen: Sequence[int], seed: int) -> None:
        self._documents = documents
        self._rng = random.Random(seed)
        self._texts: dict[int, PassageText] = {}
        words = TfidfVectorizer(stop_words="english", sublinear_tf=True).fit_transform(
            f"{one.title} {' '.join(one.sentences)}" for one in documents
        )
        nearest = (words[list(chosen)] @ words.T).toarray()
        self._near = {
            place: [other for other in np.argsort(-row)[:PASSAGES] if other != place]
            for place, row in zip(chosen, nearest, strict=True)
        }
        self.names = sorted(
            {
                name
                for place in chosen
                for text in documents[place].sentences
                for name in Sentence(text).names
            }
        )
        self.places = [
            (place, text)
            for place in chosen
            for text in documents[place].sentences
            if 40 < len(text) < 400
        ]
        self._rng.shuffle(self.places)

    def check(self, place: int, text: str, cited: int | None = None) -> Finding | None:
        passages = [place, *self._near[place]]
        chosen = place if cited is None else cited
        return check(
            Sentence.of_answer(text),
            self._read(chosen),
            [self._read(one) for one in passages if one != chosen],
        )

    def good(self) -> Iterator[tuple[str, str, Finding | None]]:
        for place, text in self.places[: 20 * OF_A_KIND]:
            yield "as it is", text, self.check(place, text)
        for name, change in REWORDED.items():
            for place, changed in self._changed(change, 4 * OF_A_KIND):
                yield name, changed, self.check(place, changed)
        for place, one in zip(
            self._near, map(self._documents.__getitem__, self._near), strict=True
        ):
            if len(one.sentences) > 1:
                joined = f"{one.sentences[0][:-1]}, and {one.sentences[1]}"
                yield "two joined", joined, self.check(place, joined)

    def bad(self) -> Iterator[tuple[str, str, Finding | None]]:
        for name, change in MISQUOTED.items():
            for place, changed in self._changed(change, OF_A_KIND):
                yield name, changed, self.check(place, changed)
        for place, text in self.places[:OF_A_KIND]:
            yield (
                "wrong citation",
                text,
                self.check(place, text, self._rng.choice(self._near[place])),
            )

    def _changed(self, change: object, count: int) -> Iterator[tuple[int, str]]:
        found = 0
        for place, text in self.places:
            changed = change(text, self.names, self._rng)  # type: ignore[operator]
            if changed != text:
                yield place, changed
                found += 1
            if found == count:
                return

    def _read(self, place: int) -> PassageText:
        if place not in self._texts:
            one = self._documents[place]
            self._texts[place] = PassageText(
                [Sentence(text) for text in [one.title, *one.sentences]]
            )
        return self._texts[place]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--tuning", action="store_true", help="the half that the limits were chosen on"
    )
    parser.add_argument("--show", action="store_true", help="show what is judged wrongly")
    arguments = parser.parse_args()
    documents = read(data_folder() / "scifact" / "corpus.jsonl")
    places = random.Random(5).sample(range(len(documents)), 2 * DOCUMENTS)
    chosen = places[:DOCUMENTS] if arguments.tuning else places[DOCUMENTS:]
    answers = AnswerSampler(documents, chosen, seed=1)
    print("| faithful sentences | number | flagged | as |\n|---|---|---|---|")
    table(list(answers.good()), show=arguments.show, wrong=True)
    print("\n| misquotes | number | caught | as |\n|---|---|---|---|")
    table(list(answers.bad()), show=arguments.show, wrong=False)
    entailment(data_folder() / "sentence_entailment.jsonl")


def table(rows: list[tuple[str, str, Finding | None]], *, show: bool, wrong: bool) -> None:
    for kind in [*dict.fromkeys(row[0] for row in rows), "all"]:
        found = [row for row in rows if kind in (row[0], "all")]
        flagged = [row[2] for row in found if row[2]]
        reasons = Counter(one.reason for one in flagged)
        told = ", ".join(f"{name} {count}" for name, count in reasons.most_common())
        print(f"| {kind} | {len(found)} | {len(flagged) / len(found):.1%} | {told} |")
    if show:
        for kind, text, finding in rows:
            if bool(finding) is wrong:
                print("   ", kind, "|", text, "|", finding)


def entailment(file: Path) -> None:
    """Measure on free paraphrases: a passage with the one sentence, and the other as the answer."""
    rows = list(map(json.loads, file.read_text().splitlines()))
    print("\n| SICK | number | flagged |\n|---|---|---|")
    for label in ("entailment", "contradiction", "neutral"):
        pairs = [row for row in rows if row["label"] == label]
        flagged = [
            check(Sentence(row["b"]), PassageText([Sentence(row["a"])]), []) for row in pairs
        ]
        told = Counter(one.reason for one in flagged if one)
        print(
            f"| {label} | {len(pairs)} | {sum(map(bool, flagged)) / len(pairs):.1%} | {dict(told)}"
        )


def read(file: Path) -> list[Document]:
    rows = map(json.loads, file.read_text().splitlines())
    return [
        Document(row["title"], [span.of(row["text"]) for span in sentences(row["text"])])
        for row in rows
    ]


if __name__ == "__main__":
    main()
