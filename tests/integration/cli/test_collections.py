"""``memetwin export``, ``import`` and ``tune`` against a running search service."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from memetwin.search.v1 import search_pb2_grpc
from services.cli.__main__ import main
from tests.search_client import Stub, create, search, upsert
from tests.stack import Stack


@pytest.fixture(scope="module")
def stub(stack: Stack) -> Stub:
    return search_pb2_grpc.SearchServiceStub(stack.search)


@pytest.fixture(scope="module")
def filled(stub: Stub) -> tuple[str, Any]:
    rows = np.random.default_rng(0).normal(size=(600, 16))
    name = create(stub, 16)
    upsert(stub, name, rows, text="a tale")
    return name, rows


def run(stack: Stack, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--search", stack.search_address])


def test_a_collection_travels_as_a_file(
    stack: Stack, stub: Stub, filled: tuple[str, Any], tmp_path: Path
) -> None:
    name, rows = filled
    file = tmp_path / "collection.memetwin"
    out = run(stack, "export", name, str(file))
    assert out.exit_code == 0, out.output
    assert f"600 documents of {name}" in out.output
    back = run(stack, "import", str(file), "--name", f"{name}-copy", "--any-engine")
    assert back.exit_code == 0, back.output
    assert "600 documents created, 0 updated" in back.output
    before, after = (
        search(stub, one, rows[:10], exact=True, return_text=True) for one in (name, f"{name}-copy")
    )
    assert before == after
    assert list(tmp_path.iterdir()) == [file]


def test_documents_are_exported_by_the_name_that_readers_know(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "otter.txt").write_text("Otters swim.")
    ingest = ["--gateway", stack.gateway_address, "ingest", str(tmp_path / "docs")]
    done = CliRunner().invoke(main, [*ingest, "--collection", "exported"])
    assert done.exit_code == 0, done.output
    out = run(stack, "export", "exported", str(tmp_path / "file"))
    assert out.exit_code == 0, out.output
    assert "1 documents of exported" in out.output
    missing = run(stack, "export", "exportd", str(tmp_path / "file"))
    assert missing.exit_code == 1
    assert "There is no collection named 'exportd'" in missing.output
    assert "exported" in missing.output


def test_a_file_that_is_cut_short_is_named(
    stack: Stack, filled: tuple[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "collection.memetwin"
    run(stack, "export", filled[0], str(file))
    file.write_bytes(file.read_bytes()[:-100])
    back = run(stack, "import", str(file), "--name", "cut-short")
    assert back.exit_code == 1
    assert "truncated" in back.output


def test_tune_prints_a_table_and_draws_curves(
    stack: Stack, filled: tuple[str, Any], tmp_path: Path
) -> None:
    picture = tmp_path / "curves.png"
    words = ["tune", filled[0], "--m", "4", "--m", "16", "--ef-runtime", "10", "--queries", "20"]
    out = run(stack, *words, "--ef-runtime", "200", "--plot", str(picture))
    assert out.exit_code == 0, out.output
    lines = [line for line in out.output.splitlines() if line.strip()[:1].isdigit()]
    rows = [line.split() for line in lines if len(line.split()) >= 9]
    assert [(row[0], row[2]) for row in rows] == [
        *(("4", "10"), ("4", "200"), ("16", "10"), ("16", "200"))
    ]
    assert sum(row[-1] == "*" for row in rows) == 1
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 1000
        assert len(drawn.convert("RGB").getcolors(10**6) or ()) > 20


def test_tune_fails_where_nothing_is_good_enough(stack: Stack, filled: tuple[str, Any]) -> None:
    words = ["--m", "4", "--ef-runtime", "1", "--ef-construction", "4", "--target-recall", "1"]
    out = run(stack, "tune", filled[0], *words)
    assert out.exit_code == 1
    assert "No setting reaches a recall of 1.0" in out.output
