"""Turns prompts into the verifier's input."""

from services.gateway.backends.types import Vectors
from services.gateway.cache.types import Entry
from services.gateway.cache.vectors import unit, unpack
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import Question


def question_of(prompt: str, vectors: Vectors | None) -> Question:
    """Return a prompt and the first row of its vectors, if known, as the verifier's input."""
    if vectors is None:
        return Question(LexicalText(prompt))
    return Question(LexicalText(prompt), unit(vectors.rows[0]), vectors.digest)


def cached_question(entry: Entry) -> Question:
    """Return an entry's prompt as the verifier's input."""
    return Question(LexicalText(entry.prompt), unpack(entry.vector), entry.digest)
