import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc, rag_pb2_grpc
from services.cli.__main__ import main
from tests.documents import read
from tests.pdf import pdf
from tests.stack import Stack

ANIMALS = "otter badger heron lynx marten stoat osprey beaver adder newt".split()


def run(stack: Stack, *words: str) -> Result:
    return CliRunner().invoke(main, ["--gateway", stack.gateway_address, *words])


def lines(folder: Path, name: str, rows: list[dict[str, Any]]) -> str:
    file = folder / name
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Forty documents, a question for each, and questions that none of them answers."""
    places = [(animal, number) for number in range(4) for animal in ANIMALS]
    corpus = [
        {
            "_id": f"{animal}{number}",
            "title": f"The {animal}",
            "text": f"In valley {number} it naps.",
        }
        for animal, number in places
    ]
    queries = [
        {"_id": str(at), "text": f"Where does the {animal} of valley {number} nap?"}
        for at, (animal, number) in enumerate(places)
    ]
    qrels = "query-id\tcorpus-id\tscore\n" + "\n".join(
        f"{at}\t{animal}{number}\t1" for at, (animal, number) in enumerate(places)
    )
    (tmp_path / "qrels.tsv").write_text(qrels)
    money = [{"text": f"What does card number {number} cost a month?"} for number in range(40)]
    return [
        *("--corpus", lines(tmp_path, "corpus.jsonl", corpus)),
        *("--queries", lines(tmp_path, "queries.jsonl", queries)),
        *("--qrels", str(tmp_path / "qrels.tsv")),
        *("--unanswerable", lines(tmp_path, "money.jsonl", money)),
        *("--picture", str(tmp_path / "evaluation.png")),
    ]


def test_an_evaluation_prints_and_draws(stack: Stack, files: list[str], tmp_path: Path) -> None:
    done = run(stack, "evaluate", "--calibrate", *files)
    assert done.exit_code == 0, done.output
    assert "documents: 40 loaded" in done.output
    figures = dict(re.findall(r"^\| (\S.*?) \| (.*?) \|$", done.output, re.M))
    assert float(figures["nDCG@10"]) > 0.8
    assert float(figures["recall@100"]) == 1.0
    assert float(figures["refusal recall"]) > 0.9
    assert float(figures["refusal precision"]) > 0.9
    assert "total, ms p50 / p95" in figures
    assert (tmp_path / "evaluation.png").read_bytes().startswith(b"\x89PNG")
    again = run(stack, "evaluate", *files)
    assert "documents: 0 loaded, 40 unchanged" in again.output


def test_a_folder_is_ingested_and_what_is_broken_is_named(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "guide.md").write_text("# Guide\n\nOtters swim.\n")
    (tmp_path / "page.html").write_text("<title>Page</title><p>Herons wait.")
    (tmp_path / "plain.txt").write_text("Newts hide.")
    (tmp_path / "paper.pdf").write_bytes(pdf([["Adders bask."], []]))
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    done = run(stack, "ingest", str(tmp_path), "--collection", "folder")
    assert done.exit_code == 0
    assert "documents: 4 loaded, 0 unchanged, 1 failed" in done.output
    assert "broken.pdf: The PDF is broken" in done.output
    assert "paper.pdf: 1 of 2 pages have no text" in done.output
    rag = rag_pb2_grpc.RagServiceStub(stack.gateway)
    found = read(rag, "folder", "deep/guide.md")
    assert (found.title, found.media_type) == ("Guide", "text/markdown")
    assert (
        "documents: 0 loaded, 4 unchanged"
        in run(stack, "ingest", str(tmp_path), "--collection", "folder").output
    )


def test_questions_and_answers_are_loaded_into_the_cache(stack: Stack, tmp_path: Path) -> None:
    file, namespace = tmp_path / "faq.csv", str(uuid.uuid4())
    rows = [f"Where is platform {number}?;Behind gate {number}.;station" for number in range(150)]
    file.write_text("\n".join(["Question;Answer;topic", *rows, " ;Nowhere.;station", ""]))
    done = run(stack, "cache", "load", str(file), "--namespace", namespace)
    assert done.exit_code == 1
    assert "entries: 150 created, 0 replaced, 0 unchanged, 1 refused in" in done.output
    assert "line 152: The prompt is empty. (EMPTY_PROMPT)" in done.output
    cache = cache_pb2_grpc.CacheServiceStub(stack.gateway)
    scope = cache_pb2.Scope(namespace=namespace)
    decision = cache.LookupEntry(
        cache_pb2.LookupEntryRequest(
            scope=scope, prompt="Where can I find platform 77?", min_similarity=0.7
        )
    ).decision
    assert decision.entry.response == "Behind gate 77."
    assert dict(decision.entry.metadata) == {"topic": "station"}
    file.write_text("\n".join(["question;answer;topic", "Where is platform 3?;Gone.;", *rows[4:]]))
    again = run(stack, "cache", "load", str(file), "--namespace", namespace)
    assert again.exit_code == 0
    assert "entries: 0 created, 1 replaced, 146 unchanged, 0 refused" in again.output
