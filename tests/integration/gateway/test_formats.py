"""Documents of all formats: each answers its question, whichever way it is ingested."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc
from services.cli.__main__ import main
from tests import office_files
from tests.documents import ingest, ingest_one, read
from tests.pdf import pdf
from tests.stack import Stack, wait_until_ready

CREATED = rag_pb2.RECEIPT_STATUS_CREATED


@dataclass(frozen=True)
class Case:
    """A file, a question, and what the passage that answers it has and has not."""

    name: str
    content: bytes
    question: str
    expected: str
    section: str = ""
    title: str = ""
    unexpected: str = "\0"


def text(name: str, content: str, *expectations: str, encoding: str = "utf-8", **more: str) -> Case:
    return Case(name, content.encode(encoding), *expectations, **more)


PLANS = [["Plan", "Price"], ["Basic", "10 EUR"], ["Pro", "30 EUR"]]
PRO = "What does Pro cost?"
CODE = "What is the launch code?"
GUIDE = "The launch code is 4711."
CASES = [
    text(
        "separators.md",
        "# Guide\n\nFirst para\u2028with\u2028inside.\n\n## Setup\n\nRun the installer.\n\n"
        f"## Secret\n\n{GUIDE}\n",
        *(CODE, "4711"),
        section="Secret",
    ),
    text(
        "formfeed.md",
        "# One\n\nAlpha\fbeta\x85gamma.\n\n# Two\n\nThe gate closes at nine.\n",
        *("When does the gate close?", "nine"),
        section="Two",
    ),
    text(
        "cells.html",
        "<table><tr><th><p>Plan</p></th><th><p>Price</p></th></tr><tr><td><p>Basic</p></td>"
        "<td><p>10 EUR</p></td></tr><tr><td><p>Pro</p></td><td><p>30 EUR</p></td></tr></table>",
        *(PRO, "Pro | 30 EUR"),
    ),
    text(
        "hidden.html",
        '<html><body><p>Our office is in Oslo.</p><p style="display:none">Our office is in Rome.'
        "</p>"
        '<div aria-hidden="true">Our office is in Bern.</div></body></html>',
        *("Where is the office?", "Oslo"),
        unexpected="Rome",
    ),
    text(
        "comment-first.html",
        "<!-- saved from a browser --><html><head><title>Fees</title></head><body>"
        "<p>The fee is 12 euros.</p><script>var fee=99</script></body></html>",
        *("What is the fee?", "12 euros"),
        title="Fees",
        unexpected="var fee",
    ),
    text(
        "svg.html",
        "<html><body><svg><title>Close icon</title></svg><h1>Parking</h1><p>Parking is free.</p>"
        "</body></html>",
        *("Is parking free?", "free"),
        title="Parking",
    ),
    text(
        "utf16.txt",
        "The ferry leaves at seven.\n",
        *("When does the ferry leave?", "seven"),
        encoding="utf-16",
    ),
    text(
        "latin1.txt",
        "Le café ouvre à huit heures.\n",
        *("Quand ouvre le café ?", "huit"),
        encoding="cp1252",
    ),
    text(
        "auction.txt",
        "The harbour sells fuel. The fish auction opens at five in the morning."
        " A ticket costs eight euros.\n",
        *("When does the fish auction open?", "five"),
    ),
    text(
        "settings.md",
        "# Tool\n\n## Settings\n\n| setting | default | what |\n|---|---|---|\n"
        "| `CACHE_TTL` | `86400` | Seconds an answer is kept |\n"
        "| `PORT` | `8080` | Port of the page |\n\n## Start\n\n"
        "```sh\ntool serve --port 8080\n```\n",
        *("What does CACHE_TTL default to?", "86400"),
        section="Settings",
    ),
    text(
        "hugo.md",
        '+++\ntitle = "Fees"\nyear = 2026\n+++\n\nThe fee is 12 euros.\n',
        *("What is the fee?", "12 euros"),
        title="Fees",
        unexpected="+++",
    ),
    text(
        "prose.md",
        "---\nNote: the gate\nopens at nine.\n---\n\nThe fee is 12 euros.\n",
        *("When does the gate open?", "nine"),
    ),
    text(
        "page.html",
        '<meta charset="koi8-r"><title>Паром</title><p>Паром отходит в семь.</p>',
        *("Когда отходит паром?", "семь"),
        encoding="koi8-r",
        title="Паром",
    ),
    text(
        "sjis.txt",
        "フェリーは七時に出ます。",
        "フェリーは何時に出ますか。",
        "七時",
        encoding="shift_jis",
    ),
    text("prices.csv", "Plan;Price\nBasic;10 EUR\nPro;30 EUR\n", PRO, "30 EUR"),
    text("prices.tsv", "Plan\tPrice\nBasic\t10 EUR\nPro\t30 EUR\n", PRO, "30 EUR"),
    text(
        "prices.json",
        '[{"plan": "Basic", "price": "10 EUR"}, {"plan": "Pro", "price": "30 EUR"}]',
        PRO,
        "30 EUR",
    ),
    text(
        "faq.jsonl",
        f'{{"q": "{CODE}", "a": "It is 4711."}}\n{{"q": "x", "a": "y"}}\n',
        CODE,
        "4711",
    ),
    text(
        "guide.rst",
        f"Guide\n=====\n\nSetup\n-----\n\nRun it.\n\nSecret\n------\n\n{GUIDE}\n",
        *(CODE, "4711"),
        section="Secret",
        title="Guide",
    ),
    text(
        "launch.py",
        'def launch_code() -> int:\n    """Return the launch code."""\n    return 4711\n',
        CODE,
        "4711",
    ),
    Case(
        "guide.docx",
        office_files.word(
            [
                ("Title", "Guide"),
                ("Heading 1", "Setup"),
                ("", "Run it."),
                ("Heading 1", "Secret"),
                ("", GUIDE),
            ]
        ),
        *(CODE, "4711"),
        section="Secret",
        title="Guide",
    ),
    Case("prices.docx", office_files.word([("", "Our plans.")], PLANS), PRO, "Pro | 30 EUR"),
    Case(
        "guide.pptx",
        office_files.slides([("Setup", ["Run it."]), ("Secret", [GUIDE])]),
        CODE,
        "4711",
        section="Secret",
    ),
    Case(
        "prices.xlsx",
        office_files.workbook({"Prices": PLANS, "Other": [["a"]]}),
        PRO,
        "30 EUR",
        section="Prices",
    ),
    Case(
        "guide.epub",
        office_files.epub("Guide", ["<h1>Setup</h1><p>Run it.", f"<h1>Secret</h1><p>{GUIDE}"]),
        CODE,
        "4711",
        section="Secret",
        title="Guide",
    ),
    Case("guide.pdf", pdf([["Run it."], [GUIDE]], title="Guide"), CODE, "4711", title="Guide"),
]


# Files that are no documents, and the reasons of their refusals.
REFUSED = {
    "picture.bin": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "UNSUPPORTED_PICTURE"),
    "archive.bin": (office_files.zipped({"a.txt": "x"}), "UNSUPPORTED_ARCHIVE"),
    "video.bin": (b"\0\0\0\x20ftypisom\0\0\2\0", "UNSUPPORTED_VIDEO"),
    "program.bin": (b"\x7fELF\2\1\1\0", "UNSUPPORTED_EXECUTABLE"),
    "noise.txt": (bytes(range(256)) * 9, "UNSUPPORTED_BINARY"),
    "broken.docx": (b"PK\3\4", "BROKEN_DOCUMENT"),
    "empty.txt": (b" \n", "EMPTY_DOCUMENT"),
}
FILES = {case.name: case.content for case in CASES} | {
    name: content for name, (content, _) in REFUSED.items()
}
REASONS = dict.fromkeys(FILES, "") | {name: reason for name, (_, reason) in REFUSED.items()}


@pytest.fixture(scope="module")
def rag(stack: Stack) -> Any:
    wait_until_ready(stack)
    return rag_pb2_grpc.RagServiceStub(stack.gateway)


@pytest.fixture
def name() -> str:
    return f"formats-{uuid.uuid4()}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_document_answers_its_question(rag: Any, case: Case, name: str) -> None:
    receipt = ingest_one(rag, name, case.name, case.content)
    assert receipt.status == CREATED, receipt
    reply = rag.Ask(rag_pb2.AskRequest(collection=name, question=case.question), timeout=60)
    best = reply.passages[0]
    if reply.refusal.reason != rag_pb2.REFUSAL_REASON_UNREADABLE:  # the model reads English
        assert case.expected in reply.answer
    assert case.expected in best.text
    assert case.unexpected not in best.text + reply.answer
    assert best.section.endswith(case.section)
    assert best.title == case.title or not case.title


def test_all_ways_accept_the_same(stack: Stack, rag: Any, name: str, tmp_path: Path) -> None:
    """Files that are sent by gRPC, over HTTP and by the command line become the same documents."""
    for file, content in FILES.items():
        (tmp_path / file).write_bytes(content)
    by_rpc = ingest(rag, f"{name}-rpc", [{"id": key, "content": one} for key, one in FILES.items()])
    assert {one.id: one.reason for one in by_rpc} == REASONS
    parts = [("file", (file, content)) for file, content in FILES.items()]
    url = f"http://{stack.http_address}/v1/documents"
    reply = httpx.post(url, data={"collection": f"{name}-http"}, files=parts, timeout=60)
    by_http = {one["id"]: one.get("reason", "") for one in reply.json()["receipts"]}
    assert by_http == REASONS
    arguments = ["--gateway", stack.gateway_address, "ingest", str(tmp_path)]
    done = CliRunner().invoke(main, [*arguments, "--collection", f"{name}-cli"])
    lines = done.output.splitlines()
    for file, reason in REASONS.items():
        assert not reason or any(file in line and f"({reason})" in line for line in lines), lines
    for case in CASES:
        first, *others = (read(rag, f"{name}-{way}", case.name) for way in ("rpc", "http", "cli"))
        assert first.text
        for one in others:
            assert (one.title, one.media_type, one.text) == (
                first.title,
                first.media_type,
                first.text,
            )


def test_a_charset_is_declared_by_grpc_and_http(stack: Stack, rag: Any, name: str) -> None:
    content, kind = "Le café ouvre.".encode("cp850"), "text/plain; charset=cp850"
    receipt = ingest_one(rag, name, "a.txt", content, media_type=kind)
    url = f"http://{stack.http_address}/v1/documents"
    options = {"collection": name, "id": "b.txt"}
    httpx.post(url, params=options, content=content, headers={"Content-Type": kind}, timeout=60)
    assert (receipt.status, list(receipt.warnings)) == (CREATED, [])
    assert [read(rag, name, key).text for key in ("a.txt", "b.txt")] == ["Le café ouvre."] * 2
