"""Documents to ingest in one call: a PDF of 300 pages, a broken PDF and 1,000 Markdown files."""

from collections.abc import Sequence
from typing import Any

from tests.pdf import pdf

PAGES, NOTES = 300, 1000
ANIMALS = "otter badger heron lynx marten stoat osprey beaver adder newt".split()
BROKEN = "broken.pdf"


def page(number: int) -> list[str]:
    """Return the lines of a page."""
    animal = ANIMALS[number % len(ANIMALS)]
    return [
        f"Page {number} is about the {animal} of valley {number}.",
        f"In valley {number} the {animal} sleeps {number % 9 + 2} hours a day.",
        f"Warden {number} counts every {animal} there in spring.",
    ]


def note(number: int) -> dict[str, Any]:
    """Return a Markdown file with front matter."""
    text = (
        f"---\ntitle: Note {number}\nyear: {1900 + number % 100}\n---\n\n# Note {number}\n\n"
        f"The code word of note {number} is {ANIMALS[number % 10]}-{number}.\n"
    )
    return {"id": f"notes/{number}.md", "content": text}


def corpus(pages: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Return the documents in the order in which they are sent."""
    documents = [{"id": "animals.pdf", "content": pdf(pages)}]
    documents += [{"id": BROKEN, "content": b"%PDF-1.7\nno more"}]
    return documents + [note(number) for number in range(NOTES)]
