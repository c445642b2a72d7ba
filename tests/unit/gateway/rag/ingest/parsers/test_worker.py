import json
import subprocess
import sys

import pytest

from services.gateway.rag.ingest.file_signatures import DOCX, EPUB, PPTX, XLSX
from services.gateway.rag.ingest.parsers import frames
from tests import office_files

WORKER = "services.gateway.rag.ingest.parsers.worker"


def run(*documents: tuple[str, bytes]) -> list[tuple[int, bytes]]:
    """Run a worker on documents until its input ends; return the frames of its output."""
    data = b""
    for media_type, content in documents:
        request = {"media_type": media_type, "cpu_seconds": 60}
        data += frames.json_frame(frames.REQUEST, request) + frames.frame(frames.CONTENT, content)
    command = [sys.executable, "-m", WORKER, str(64 * 2**20)]
    output = subprocess.run(command, input=data, capture_output=True, check=True).stdout
    found = []
    while output:
        kind, length = frames.HEADER.unpack(output[: frames.HEADER.size])
        end = frames.HEADER.size + length
        found.append((kind, output[frames.HEADER.size : end]))
        output = output[end:]
    return found


def test_a_worker_answers_each_document_and_ends_with_its_input() -> None:
    found = run(
        ("text/plain", b"One."),
        ("text/plain", b"\xff\xfe\xff"),
        ("text/html", b"<meta charset=undefined>\xff<p>Two."),
        ("text/plain", b""),
    )
    kinds = [kind for kind, _ in found]
    extract = [frames.TEXT, frames.SECTIONS, frames.BLOCKS, frames.END]
    assert kinds == [*extract, frames.FAILURE, *extract, frames.FAILURE]
    reasons = [json.loads(data)["reason"] for kind, data in found if kind == frames.FAILURE]
    assert reasons == ["NOT_UTF8", "EMPTY_DOCUMENT"]


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        (DOCX, office_files.word([("", "One.")])),
        (PPTX, office_files.slides([("One", ["Two."])])),
        (XLSX, office_files.workbook({"One": [["Two"]]})),
        (EPUB, office_files.epub("One", ["<p>Two."])),
        ("text/x-rst", b"One."),
        ("text/plain;charset=koi8-r", "Семь.".encode("koi8-r")),
    ],
)
def test_the_libraries_fit_into_the_memory_of_a_worker(media_type: str, content: bytes) -> None:
    assert run((media_type, content))[-1][0] == frames.END


def test_the_worker_does_not_import_the_gateway() -> None:
    """Several workers need memory, and code that is not loaded cannot be attacked."""
    code = f"import sys, {WORKER}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    ).stdout.split()
    assert {"grpc", "numpy", "redis", "starlette", "torch"}.isdisjoint(loaded)
