"""Loads folders of pictures and documents, and files of texts, into a running stack."""

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
from tqdm import tqdm

from memetwin.gateway.v1 import rag_pb2, twin_pb2, twin_pb2_grpc
from memetwin.search.v1 import search_pb2
from services.cli.ingestion import Upload, send

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
COLLECTION = "memes"
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
DOCUMENT_SUFFIXES = (".txt", ".text", ".md", ".markdown", ".html", ".htm", ".pdf")
CONCURRENT_CALLS = 4
# Codes that one picture can cause. Any other code concerns the whole stack and ends the load.
_PICTURE_ERRORS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)


@dataclass
class Report:
    """The outcome of a load.

    Attributes:
        kind: what was loaded, for example ``pictures``.
        unchanged: number of items that the stack already had.
        problems: one line for each item that failed.
        warnings: one line for each warning about an item that was loaded.
    """

    kind: str
    loaded: int = 0
    unchanged: int = 0
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, receipts: Iterable[rag_pb2.IngestDocumentsResponse]) -> Self:
        """Add the receipts of documents, and return this report."""
        for receipt in receipts:
            if receipt.status == rag_pb2.RECEIPT_STATUS_FAILED:
                self.problems.append(f"{receipt.id}: {receipt.message} ({receipt.reason})")
            elif receipt.status == rag_pb2.RECEIPT_STATUS_UNCHANGED:
                self.unchanged += 1
            else:
                self.loaded += 1
            self.warnings += [f"{receipt.id}: {warning}" for warning in receipt.warnings]
        return self

    @property
    def failed(self) -> bool:
        """Whether there were problems and no item is in the stack."""
        return bool(self.problems) and not self.loaded and not self.unchanged

    def summary(self) -> str:
        """Return the report as one line."""
        return (
            f"{self.kind}: {self.loaded} loaded, {self.unchanged} unchanged,"
            f" {len(self.problems)} failed"
        )


def load_pictures(channel: grpc.Channel, folder: Path) -> Report:
    """Add every picture below a folder as a twin. Its title is the file name.

    A file ``tags.json`` in the folder may list tags by title.

    Raises:
        grpc.RpcError: the gateway refuses the call or is unreachable.
    """
    report = Report("pictures")
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICTURE_SUFFIXES]
    tags = _tags(folder)
    stub = twin_pb2_grpc.TwinServiceStub(channel)
    with ThreadPoolExecutor(CONCURRENT_CALLS) as pool:
        outcomes = pool.map(lambda path: _add_picture(stub, path, tags.get(path.stem, [])), files)
        for outcome in tqdm(outcomes, total=len(files), desc="pictures", unit="", disable=None):
            if isinstance(outcome, str):
                report.problems.append(outcome)
            elif outcome:
                report.loaded += 1
            else:
                report.unchanged += 1
    return report


def load_texts(channel: grpc.Channel, file: Path) -> Report:
    """Ingest a file of texts, one JSON object per line: id, title, text, year, tags, origin.

    Raises:
        grpc.RpcError: the gateway refuses the call or is unreachable.
    """
    rows = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    return Report("texts").add(send(channel, [_text(row) for row in rows], "texts"))


def load_documents(channel: grpc.Channel, folder: Path, collection: str) -> Report:
    """Ingest every document below a folder. Its id is its path in the folder.

    Raises:
        grpc.RpcError: the gateway refuses the call or is unreachable.
    """
    report, uploads = Report("documents"), []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in DOCUMENT_SUFFIXES and path.is_file():
            name = path.relative_to(folder).as_posix()
            if os.access(path, os.R_OK):
                header = rag_pb2.IngestHeader(collection=collection, id=name)
                uploads.append(Upload(header, path.read_bytes))
            else:
                report.problems.append(f"{name}: no permission to read the file")
    return report.add(send(channel, uploads, "documents"))


def _add_picture(stub: twin_pb2_grpc.TwinServiceStub, path: Path, tags: list[str]) -> bool | str:
    """Add a picture; return whether it is new, or what is wrong with it."""
    try:
        request = twin_pb2.AddTwinRequest(title=path.stem, image=path.read_bytes(), tags=tags)
        return stub.AddTwin(request, timeout=60, wait_for_ready=True).created
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() in _PICTURE_ERRORS:
            return f"{path.name}: {error.details()}"
        raise


def _text(row: dict[str, Any]) -> Upload:
    point = search_pb2.GeoPoint(lat=row["origin"]["lat"], lon=row["origin"]["lon"])
    header = rag_pb2.IngestHeader(
        collection=COLLECTION,
        id=row["id"],
        title=row["title"],
        fields={
            "year": search_pb2.FieldValue(number=row["year"]),
            "tags": search_pb2.FieldValue(strings=search_pb2.Strings(values=row["tags"])),
            "origin": search_pb2.FieldValue(geo=point),
        },
    )
    return Upload(header, row["text"].encode)


def _tags(folder: Path) -> dict[str, list[str]]:
    file = folder / "tags.json"
    return json.loads(file.read_text()) if file.exists() else {}
