"""Answers without a language model from documents that nobody polished, at default settings."""

import uuid
from typing import Any

import pytest

from memetwin.gateway.v1 import cache_pb2, rag_pb2, rag_pb2_grpc
from services.cli.load import DEMO, load_texts
from tests.documents import ingest
from tests.stack import Stack

README = """# quickserve

[![build](https://img.example/b.svg)](https://ci.example)

quickserve is a **tiny** static file server. It needs no configuration.

## Installation

```bash
pip install quickserve
```

## Usage

- `--port N` sets the port (default **8000**)
- `--gzip` compresses responses

## License

MIT. See [LICENSE](LICENSE).
"""
SETTINGS = """# Tool

## Settings

| setting | default | what |
|---|---|---|
| `CACHE_TTL` | `86400` | Seconds an answer is kept |
| `PORT` | `8080` | Port of the page |

## Start

```sh
tool serve --port 8080
```
"""
PAGE = """<!doctype html><html><head><title>City Library</title></head><body><nav>Home</nav>
<h1>City Library</h1><p>Welcome to the library.</p><h2>Opening hours</h2>
<table><tr><th>Day</th><th>Hours</th></tr><tr><td>Monday</td><td>closed</td></tr>
<tr><td>Saturday</td><td>10:00 - 14:00</td></tr></table>
<h2>Membership</h2><p>An annual card costs 25 euros. Children read for free.</p></body></html>"""
NOTES = """Meeting 2026-03-12

present: Ana, Bo, Chidi
absent: Dee

* release moves to 14 April because the payment tests are flaky
* Bo fixes the flaky tests till friday
* budget for the new server: 4.200 EUR, approved by Ana

next meeting 19 March 10h room 3
"""
FAQ = """# FAQ

### How do I reset my password?

Click *Forgot password* on the login page. The link is valid for 30 minutes.

### Can I change my username?

No. Usernames are permanent.

### How long does shipping take?

Two to four working days within the EU.
"""
RECIPE = """PANCAKES (grandma)

Ingredients:
250 g flour
2 eggs
half a litre of milk

Mix flour, eggs and milk until smooth. Let the batter rest for 20 minutes.

Keeps one day in the fridge.
"""
HARBOUR = """The harbour of Port Wenn was built in 1887. The harbour master is Ines Calder.

The harbour sells fuel. The fish auction opens at five in the morning. A ticket costs eight euros.
"""
CODE = """import time

# Requests allowed per window.
MAX_REQUESTS = 120
WINDOW_SECONDS = 60


def retry_after(now):
    \"\"\"Return the seconds to wait until the next window.\"\"\"
    return WINDOW_SECONDS - now % WINDOW_SECONDS
"""
SEPARATORS = """# Guide

First para\u2028with\u2028inside.

## Secret

The launch code is 4711.
"""
FORM_FEED = "# One\n\nAlpha\fbeta\fgamma.\n\n# Two\n\nThe gate closes at nine.\n"
CELLS = """<table><tr><th><p>Plan</p></th><th><p>Price</p></th></tr>
<tr><td><p>Basic</p></td><td><p>10 EUR</p></td></tr>
<tr><td><p>Pro</p></td><td><p>30 EUR</p></td></tr></table>"""
CASES = [
    ("quickserve.md", README, "How do I install quickserve?", "pip install quickserve"),
    ("quickserve.md", README, "What is the default port?", "default 8000"),
    ("quickserve.md", README, "Which license does quickserve have?", "MIT"),
    ("settings.md", SETTINGS, "What does CACHE_TTL default to?", "CACHE_TTL | 86400"),
    ("settings.md", SETTINGS, "How do I start the tool?", "tool serve --port 8080"),
    ("library.html", PAGE, "When is the library open on Saturday?", "10:00 - 14:00"),
    ("library.html", PAGE, "How much is a library card?", "25 euros"),
    ("notes.txt", NOTES, "When is the release?", "14 April"),
    ("notes.txt", NOTES, "Who fixes the flaky tests?", "Bo fixes"),
    ("notes.txt", NOTES, "When is the next meeting?", "19 March"),
    ("faq.md", FAQ, "How can I reset my password?", "Forgot password"),
    ("faq.md", FAQ, "Can I change my username?", "permanent"),
    ("faq.md", FAQ, "How long is shipping?", "Two to four"),
    ("pancakes.txt", RECIPE, "How much flour do I need?", "250 g"),
    ("pancakes.txt", RECIPE, "How long do the pancakes keep?", "one day"),
    ("harbour.txt", HARBOUR, "When does the fish auction open?", "five"),
    ("harbour.txt", HARBOUR, "What does a ticket cost?", "eight euros"),
    ("harbour.txt", HARBOUR, "Who is the harbour master?", "Ines Calder"),
    ("limiter.py", CODE, "How many requests are allowed per window?", "MAX_REQUESTS = 120"),
    ("separators.md", SEPARATORS, "What is the launch code?", "4711"),
    ("formfeed.md", FORM_FEED, "When does the gate close?", "nine"),
    ("cells.html", CELLS, "What does Pro cost?", "Pro | 30 EUR"),
    ("cafe.txt", "Le café ouvre à huit heures.\n", "Quand ouvre le café ?", "huit"),
]
# The documents say nothing of it, and their passages are not near.
UNANSWERED = [
    ("harbour.txt", HARBOUR, "What is the boiling point of tungsten?"),
    ("notes.txt", NOTES, "Who is the mayor of the town?"),
    ("faq.md", FAQ, "When was the lighthouse built?"),
    ("pancakes.txt", RECIPE, "Which visa do I need for Japan?"),
]


@pytest.fixture(scope="module")
def rag(stack: Stack) -> rag_pb2_grpc.RagServiceStub:
    return rag_pb2_grpc.RagServiceStub(stack.gateway)


@pytest.fixture(scope="module")
def collections(rag: Any) -> dict[str, str]:
    """The collection of each document, by its name."""
    texts = {name: text for name, text, *_ in [*CASES, *UNANSWERED]}
    names = {name: f"plain-{uuid.uuid4()}" for name in texts}
    for name, text in texts.items():
        ingest(rag, names[name], [{"id": name, "content": text}])
    return names


def ask(rag: Any, collection: str, question: str) -> Any:
    request = rag_pb2.AskRequest(
        collection=collection,
        question=question,
        cache=rag_pb2.CacheControl(no_cache=True, no_store=True),
        scope=cache_pb2.Scope(namespace=str(uuid.uuid4())),
    )
    return rag.Ask(request, timeout=60)


@pytest.mark.parametrize(("name", "text", "question", "wanted"), CASES)
def test_documents_answer_their_questions(
    rag: Any, collections: dict[str, str], name: str, text: str, question: str, wanted: str
) -> None:
    reply = ask(rag, collections[name], question)
    assert wanted in reply.answer
    assert 1 <= len(reply.citations) <= 3
    assert "#" not in reply.answer
    assert "**" not in reply.answer
    request = rag_pb2.GetDocumentRequest(collection=collections[name], id=name)
    stored = rag.GetDocument(request).document.text
    for citation in reply.citations:
        assert stored[citation.source_start : citation.source_end] == citation.quote
        assert reply.answer[citation.start : citation.end].strip()


@pytest.mark.parametrize(("name", "text", "question"), UNANSWERED)
def test_what_is_not_there_is_refused(
    rag: Any, collections: dict[str, str], name: str, text: str, question: str
) -> None:
    reply = ask(rag, collections[name], question)
    assert reply.refusal.reason == rag_pb2.REFUSAL_REASON_NO_RELEVANT_CONTEXT
    assert not reply.answer


@pytest.mark.parametrize(
    "question", ["Can you explain to me what a dank meme is?", "What is a dank meme?"]
)
def test_the_demo_knows_what_a_dank_meme_is(stack: Stack, rag: Any, question: str) -> None:
    load_texts(stack.gateway, DEMO / "memes.jsonl")
    reply = ask(rag, "memes", question)
    assert "A dank meme is an internet meme" in reply.answer
    assert {
        one.document.partition("-overused")[0].partition("-style")[0] for one in reply.citations
    } == {"dank-meme"}
