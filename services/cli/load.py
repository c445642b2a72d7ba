"""Loads folders of pictures and files of texts into a running stack."""

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
from services.cli.documents import Outgoing, send

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
COLLECTION = "memes"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
DOCUMENTS = (".txt", ".text", ".md", ".markdown", ".html", ".htm", ".pdf")
AT_ONCE = 4
# What one picture's fault can be; anything else is the stack's, and ends the load.
_OWN_FAULT = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)


@dataclass
class Report:
    """What became of a load."""

    kind: str
    loaded: int = 0
    skipped: int = 0
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def of(self, receipts: Iterable[rag_pb2.IngestDocumentsResponse]) -> Self:
        """Take in what became of documents; return this report."""
        for receipt in receipts:
            if receipt.status == rag_pb2.RECEIPT_STATUS_FAILED:
                self.problems.append(f"{receipt.id}: {receipt.message} ({receipt.reason})")
            elif receipt.status == rag_pb2.RECEIPT_STATUS_UNCHANGED:
                self.skipped += 1
            else:
                self.loaded += 1
            self.warnings += [f"{receipt.id}: {warning}" for warning in receipt.warnings]
        return self

    def sentence(self) -> str:
        """Say it in one line."""
        return (
            f"{self.kind}: {self.loaded} loaded, {self.skipped} were there,"
            f" {len(self.problems)} could not be read"
        )


def load_pictures(channel: grpc.Channel, folder: Path) -> Report:
    """Add every picture below a folder as a twin; titles are file names, ``tags.json`` adds tags.

    Raises:
        grpc.RpcError: the stack does not answer.
    """
    report = Report("pictures")
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    tags = _tags(folder)
    stub = twin_pb2_grpc.TwinServiceStub(channel)

    def add(path: Path) -> bool | str:
        try:
            request = twin_pb2.AddTwinRequest(
                title=path.stem, image=path.read_bytes(), tags=tags.get(path.stem, [])
            )
            return stub.AddTwin(request, timeout=60, wait_for_ready=True).created
        except OSError as error:
            return f"{path.name}: {error.strerror}"
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() in _OWN_FAULT:
                return f"{path.name}: {error.details()}"
            raise

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for outcome in tqdm(pool.map(add, files), total=len(files), desc="pictures", unit=""):
            if isinstance(outcome, str):
                report.problems.append(outcome)
            elif outcome:
                report.loaded += 1
            else:
                report.skipped += 1
    return report


def load_texts(channel: grpc.Channel, file: Path) -> Report:
    """Ingest a file of texts, one JSON object a line: id, title, text, year, tags, origin.

    Raises:
        grpc.RpcError: the stack does not answer.
    """
    rows = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    return Report("texts").of(send(channel, [_text(row) for row in rows], "texts"))


def load_documents(channel: grpc.Channel, folder: Path, collection: str) -> Report:
    """Ingest every document below a folder; ids are paths in it. What is unchanged is skipped.

    Raises:
        grpc.RpcError: the stack does not answer.
    """
    report, outgoing = Report("documents"), []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in DOCUMENTS and path.is_file():
            name = path.relative_to(folder).as_posix()
            if os.access(path, os.R_OK):
                header = rag_pb2.IngestHeader(collection=collection, id=name)
                outgoing.append(Outgoing(header, path.read_bytes))
            else:
                report.problems.append(f"{name}: it may not be read")
    return report.of(send(channel, outgoing, "documents"))


def _text(row: dict[str, Any]) -> Outgoing:
    place = search_pb2.GeoPoint(lat=row["origin"]["lat"], lon=row["origin"]["lon"])
    header = rag_pb2.IngestHeader(
        collection=COLLECTION,
        id=row["id"],
        title=row["title"],
        fields={
            "year": search_pb2.FieldValue(number=row["year"]),
            "tags": search_pb2.FieldValue(strings=search_pb2.Strings(values=row["tags"])),
            "origin": search_pb2.FieldValue(geo=place),
        },
    )
    return Outgoing(header, row["text"].encode)


def _tags(folder: Path) -> dict[str, list[str]]:
    file = folder / "tags.json"
    return json.loads(file.read_text()) if file.exists() else {}
