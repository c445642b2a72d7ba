"""``memetwin ingest`` and ``memetwin load`` on folders with odd names and nested folders."""

import os
import shutil
import uuid
from pathlib import Path

from click.testing import CliRunner, Result

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc, twin_pb2, twin_pb2_grpc
from services.cli.__main__ import main
from services.cli.load import DEMO
from tests.stack import Stack


def run(stack: Stack, *words: str) -> Result:
    return CliRunner().invoke(main, ["--gateway", stack.gateway_address, *words])


def make(folder: Path, name: str, content: bytes | str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def documents(stack: Stack, collection: str) -> list[str]:
    stub = rag_pb2_grpc.RagServiceStub(stack.gateway)
    reply = stub.ListDocuments(rag_pb2.ListDocumentsRequest(collection=collection))
    return [one.id for one in reply.documents]


def test_a_folder_is_ingested_file_by_file(stack: Stack, tmp_path: Path) -> None:
    name = f"folder-{uuid.uuid4()}"
    make(tmp_path, "a/notes.md", "The otter swims.")
    make(tmp_path, "b/notes.md", "The heron waits.")
    make(tmp_path, os.fsdecode(b"caf\xe9.txt"), "Coffee at eight.")
    make(tmp_path, "broken.pdf", "%PDF-1.7 broken")
    make(tmp_path, "photo.png", b"\x89PNG")
    make(tmp_path, ".hidden/secret.md", "Secret.")
    make(tmp_path, "build/out.md", "Built.")
    make(tmp_path, ".gitignore", "build/\n")
    done = run(stack, "ingest", str(tmp_path), "--collection", name)
    assert done.exit_code == 0, done.output
    for line in (
        "created: a/notes.md",
        "created: b/notes.md",
        r"created: caf\xe9.txt",
        "skipped: photo.png: pictures",
        "failed: broken.pdf",
        "4 skipped (2 hidden, 1 named by .gitignore, 1 pictures)",
    ):
        assert line in done.output
    assert documents(stack, name) == ["a/notes.md", "b/notes.md", r"caf\xe9.txt"]
    again = run(stack, "ingest", str(tmp_path), "--collection", name)
    assert "documents: 0 loaded, 3 unchanged, 1 failed" in again.output


def test_pruning_removes_what_is_gone(stack: Stack, tmp_path: Path) -> None:
    name = f"folder-{uuid.uuid4()}"
    make(tmp_path, "one/a.md", "The otter swims.")
    gone = make(tmp_path, "one/b.md", "The heron waits.")
    make(tmp_path, "two/c.md", "The stoat hunts.")
    for folder in ("one", "two"):
        run(stack, "ingest", str(tmp_path / folder), "--collection", name)
    gone.unlink()
    done = run(stack, "ingest", str(tmp_path / "one"), "--collection", name, "--prune")
    assert "removed: b.md" in done.output
    assert documents(stack, name) == ["a.md", "c.md"]


def test_pictures_of_one_name_are_two_twins(stack: Stack, tmp_path: Path) -> None:
    pictures = sorted((DEMO / "pictures").glob("*.png"))[:2]
    stub = twin_pb2_grpc.TwinServiceStub(stack.gateway)
    for year, picture in zip(("2019", "2020"), pictures, strict=True):
        (tmp_path / year).mkdir()
        shutil.copy(picture, tmp_path / year / "IMG_0001.png")
    earlier = twin_pb2.AddTwinRequest(title="IMG_0001", image=pictures[0].read_bytes())
    assert stub.AddTwin(earlier).twin.id == "img-0001"
    done = run(stack, "load", str(tmp_path))
    assert "created: 2019/IMG_0001.png" in done.output
    assert "created: 2020/IMG_0001.png" in done.output
    assert "removed: img-0001" in done.output
    (tmp_path / "2020" / "IMG_0001.png").unlink()
    done = run(stack, "load", str(tmp_path), "--prune")
    assert "removed: 2020/IMG_0001.png" in done.output
    ids = [one.id for one in stub.ListTwins(twin_pb2.ListTwinsRequest()).twins]
    assert [one for one in ids if "IMG_0001" in one] == ["2019/IMG_0001.png"]
