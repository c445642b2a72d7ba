import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc, twin_pb2, twin_pb2_grpc
from services.cli import load
from services.cli.folders import source_of
from services.cli.load import load_documents, load_pictures

CHANNEL: Any = None


class FakeRag:
    """Keeps documents in memory; lists them in pages of two."""

    def __init__(self) -> None:
        self.stored: dict[str, rag_pb2.SourceDocument] = {}

    def IngestDocuments(  # noqa: N802
        self, requests: Iterable[rag_pb2.IngestDocumentsRequest], **options: Any
    ) -> Iterator[rag_pb2.IngestDocumentsResponse]:
        for request in requests:
            if request.WhichOneof("part") == "header":
                header = request.header
                one = rag_pb2.SourceDocument(id=header.id, source=header.source)
                self.stored[header.id] = one
                yield rag_pb2.IngestDocumentsResponse(
                    id=header.id, status=rag_pb2.RECEIPT_STATUS_CREATED
                )

    def ListDocuments(  # noqa: N802
        self, request: rag_pb2.ListDocumentsRequest, **options: Any
    ) -> rag_pb2.ListDocumentsResponse:
        names = sorted(name for name in self.stored if name > request.page_token)
        more = names[1] if len(names) > 2 else ""
        return rag_pb2.ListDocumentsResponse(
            documents=[self.stored[name] for name in names[:2]], next_page_token=more
        )

    def DeleteDocument(  # noqa: N802
        self, request: rag_pb2.DeleteDocumentRequest, **options: Any
    ) -> None:
        del self.stored[request.id]


@grpc.Call.register
class Refusal(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.INVALID_ARGUMENT

    def details(self) -> str:
        return "not a picture"


class FakeTwins:
    """Keeps twins in memory; their digest is their bytes."""

    def __init__(self) -> None:
        self.stored: dict[str, twin_pb2.Twin] = {}

    def AddTwin(self, request: twin_pb2.AddTwinRequest, **options: Any) -> Any:  # noqa: N802
        if not request.image:
            raise Refusal
        twin = twin_pb2.Twin(
            id=request.id,
            title=request.title,
            tags=request.tags,
            digest=request.image.hex(),
            source=request.source,
        )
        created = self.stored.get(request.id) != twin
        self.stored[request.id] = twin
        return twin_pb2.AddTwinResponse(twin=twin, created=created)

    def ListTwins(self, request: twin_pb2.ListTwinsRequest, **options: Any) -> Any:  # noqa: N802
        return twin_pb2.ListTwinsResponse(twins=self.stored.values())

    def DeleteTwin(self, request: twin_pb2.DeleteTwinRequest, **options: Any) -> None:  # noqa: N802
        del self.stored[request.id]


@pytest.fixture
def rag(monkeypatch: pytest.MonkeyPatch) -> FakeRag:
    service = FakeRag()
    monkeypatch.setattr(rag_pb2_grpc, "RagServiceStub", lambda channel: service)
    return service


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> FakeTwins:
    service = FakeTwins()
    monkeypatch.setattr(twin_pb2_grpc, "TwinServiceStub", lambda channel: service)
    return service


def make(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        file = folder / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


def test_every_file_of_a_folder_gets_a_receipt(rag: FakeRag, tmp_path: Path) -> None:
    make(tmp_path, a_dot_md=b"a", b__a_dot_md=b"b", c_dot_png=b"c", d_dot_mp3=b"d", Makefile=b"e")
    make(tmp_path, _dot_hidden__x_dot_md=b"x", e_dot_csv=b"f", f_dot_ts=b"h")
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"g")
    report = load_documents(CHANNEL, tmp_path, "notes")
    assert report.receipts == [
        "skipped: c.png: pictures",
        "skipped: d.mp3: recordings",
        *(
            f"created: {name}"
            for name in ("Makefile", "a.md", "b/a.md", "caf\\xe9.txt", "e.csv", "f.ts")
        ),
    ]
    assert report.summary() == (
        "documents: 6 loaded, 0 unchanged, 0 failed, 3 skipped (1 hidden, 1 pictures, 1 recordings)"
    )


def test_too_large_a_file_is_not_read(
    rag: FakeRag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "MAX_FILE_BYTES", 2**20)
    make(tmp_path, a_dot_md=b"a", b_dot_md=bytes(2**20 + 1))
    report = load_documents(CHANNEL, tmp_path, "notes")
    assert report.problems == ["b.md: The file is larger than 1 MiB."]
    assert list(rag.stored) == ["a.md"]


def test_pruning_removes_only_what_came_from_the_folder(rag: FakeRag, tmp_path: Path) -> None:
    one = make(tmp_path / "one", a_dot_md=b"a", b_dot_md=b"b", c_dot_md=b"c")
    other = make(tmp_path / "other", d_dot_md=b"d")
    load_documents(CHANNEL, one, "notes")
    load_documents(CHANNEL, other, "notes")
    rag.stored["api"] = rag_pb2.SourceDocument(id="api")
    (one / "b.md").unlink()
    assert load_documents(CHANNEL, one, "notes").removed == 0
    report = load_documents(CHANNEL, one, "notes", prune=True)
    assert report.receipts[-1] == "removed: b.md"
    assert sorted(rag.stored) == ["a.md", "api", "c.md", "d.md"]


def test_nothing_is_removed_if_the_folder_looks_lost(
    rag: FakeRag, twins: FakeTwins, tmp_path: Path
) -> None:
    load_documents(CHANNEL, make(tmp_path, a_dot_md=b"a"), "notes")
    (tmp_path / "a.md").unlink()
    report = load_documents(CHANNEL, tmp_path, "notes", prune=True)
    assert "Nothing is removed" in report.warnings[0]
    (tmp_path / "b.md").symlink_to("nowhere")
    make(tmp_path, c_dot_md=b"c")
    report = load_documents(CHANNEL, tmp_path, "notes", prune=True)
    assert "Nothing is removed" in report.warnings[0]
    assert sorted(rag.stored) == ["a.md", "c.md"]


def test_pictures_of_one_name_are_two_twins(twins: FakeTwins, tmp_path: Path) -> None:
    make(tmp_path, x__cat_dot_png=b"1", y__cat_dot_png=b"2", cat_dot_jpg=b"3", notes_dot_md=b"4")
    make(tmp_path, tags_dot_json=b'{"cat": ["pet"]}', broken_dot_png=b"")
    report = load_pictures(CHANNEL, tmp_path)
    assert sorted(twins.stored) == ["cat.jpg", "x/cat.png", "y/cat.png"]
    assert {one.title for one in twins.stored.values()} == {"cat"}
    assert {one.source for one in twins.stored.values()} == {source_of(tmp_path)}
    assert twins.stored["cat.jpg"].tags == ["pet"]
    assert report.problems == ["broken.png: not a picture"]
    assert report.receipts[0] == "skipped: notes.md: other files"
    again = load_pictures(CHANNEL, tmp_path)
    assert (again.loaded, again.unchanged) == (0, 3)


def test_twins_of_earlier_versions_get_their_paths_as_ids(twins: FakeTwins, tmp_path: Path) -> None:
    make(tmp_path, Sad_Cat_dot_png=b"1", b__Dog_dot_png=b"2")
    for name, title, picture in [
        *(("sad-cat", "Sad_Cat", b"1"), ("dog", "Dog", b"other"), ("mine", "Dog", b"2")),
    ]:
        twins.stored[name] = twin_pb2.Twin(id=name, title=title, digest=picture.hex())
    report = load_pictures(CHANNEL, tmp_path)
    assert sorted(twins.stored) == ["Sad_Cat.png", "b/Dog.png", "dog", "mine"]
    assert report.receipts[-1] == "removed: sad-cat"


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_broken_file_of_tags_ends_nothing(
    twins: FakeTwins, tmp_path: Path, content: bytes
) -> None:
    make(tmp_path, a_dot_png=b"1", tags_dot_json=content)
    report = load_pictures(CHANNEL, tmp_path)
    assert report.problems[0].startswith("tags.json: ")
    assert list(twins.stored) == ["a.png"]


def test_pictures_that_are_gone_are_removed(twins: FakeTwins, tmp_path: Path) -> None:
    make(tmp_path, a_dot_png=b"1", b_dot_png=b"2")
    load_pictures(CHANNEL, tmp_path)
    (tmp_path / "b.png").unlink()
    load_pictures(CHANNEL, tmp_path)
    assert sorted(twins.stored) == ["a.png", "b.png"]
    load_pictures(CHANNEL, tmp_path, prune=True)
    assert list(twins.stored) == ["a.png"]
