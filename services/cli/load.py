"""Loads folders of pictures and documents, and files of texts, into a running stack."""

import json
import mimetypes
import re
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from tqdm import tqdm

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc, twin_pb2, twin_pb2_grpc
from memetwin.search.v1 import search_pb2
from services.cli.folders import File, Listing, file_id, list_files, source_of
from services.cli.ingestion import Upload, send
from services.cli.reports import Report

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
COLLECTION = "memes"
TAGS_FILE = "tags.json"
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
# The services refuse larger files, so they are not even read.
MAX_FILE_BYTES = 32 * 2**20
MAX_TITLE_CHARACTERS = 200
CONCURRENT_CALLS = 4
PAGE_SIZE = 1000
TIMEOUT = 60.0
# Codes that one picture can cause. Any other code concerns the whole stack and ends the load.
_PICTURE_ERRORS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
# Files of these types are no documents, so they are not sent.
_OTHER_KINDS = {"image": "pictures", "audio": "recordings", "video": "videos", "font": "fonts"}


def load_pictures(channel: grpc.Channel, folder: Path, *, prune: bool = False) -> Report:
    """Add every picture below a folder as a twin. Its id is its path in the folder.

    Its title is the file's name. A file ``tags.json`` in the folder may list tags by title.

    Args:
        channel: leads to the gateway.
        folder: the folder.
        prune: delete the twins that came from the folder and whose files are gone.

    Raises:
        grpc.RpcError: the gateway refuses the call or is unreachable.
    """
    listing, source = list_files(folder), source_of(folder)
    report, stub = _report("pictures", listing), twin_pb2_grpc.TwinServiceStub(channel)
    tags = _tags(folder, report)
    files = [file for file in listing.files if file.path.suffix.lower() in PICTURE_SUFFIXES]
    for file in listing.files:
        if file.path.suffix.lower() not in PICTURE_SUFFIXES and file.id != TAGS_FILE:
            report.skip(file.id, "other files")
    earlier = list(_twins(stub))
    added: list[twin_pb2.Twin] = []
    with ThreadPoolExecutor(CONCURRENT_CALLS) as pool:
        replies = pool.map(lambda file: _add_picture(stub, file, source, tags), files)
        bar = tqdm(replies, total=len(files), desc="pictures", unit="", disable=None)
        for file, reply in zip(files, bar, strict=True):
            if isinstance(reply, str):
                report.problems.append(f"{file.id}: {reply}")
            else:
                report.record(file.id, "created" if reply.created else "unchanged")
                added.append(reply.twin)
    gone = _gone(earlier, source, listing, report) if prune else []
    for key in [*_renamed(earlier, added), *gone]:
        stub.DeleteTwin(twin_pb2.DeleteTwinRequest(id=key), timeout=TIMEOUT)
        report.record(key, "removed")
    return report


def load_texts(channel: grpc.Channel, file: Path) -> Report:
    """Ingest a file of texts, one JSON object per line: id, title, text, year, tags, origin.

    Raises:
        grpc.RpcError: the gateway refuses the call or is unreachable.
    """
    rows = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    return Report("texts").add(send(channel, [_text(row) for row in rows], "texts"))


def load_documents(
    channel: grpc.Channel, folder: Path, collection: str, *, prune: bool = False
) -> Report:
    """Ingest every document below a folder. Its id is its path in the folder.

    Args:
        channel: leads to the gateway.
        folder: the folder.
        collection: the collection of the documents.
        prune: delete the documents that came from the folder and whose files are gone.

    Raises:
        grpc.RpcError: the gateway refuses the call or is unreachable.
    """
    listing, source = list_files(folder), source_of(folder)
    report, uploads = _report("documents", listing), []
    for file in listing.files:
        if kind := _other_kind(file.path.name):
            report.skip(file.id, kind)
        elif file.size > MAX_FILE_BYTES:
            limit = f"{MAX_FILE_BYTES // 2**20} MiB"
            report.problems.append(f"{file.id}: The file is larger than {limit}.")
        else:
            header = rag_pb2.IngestHeader(collection=collection, id=file.id, source=source)
            uploads.append(Upload(header, file.path.read_bytes))
    report.add(send(channel, uploads, "documents"))
    if prune:
        stub = rag_pb2_grpc.RagServiceStub(channel)
        for key in _gone(list(_documents(stub, collection)), source, listing, report):
            request = rag_pb2.DeleteDocumentRequest(collection=collection, id=key)
            stub.DeleteDocument(request, timeout=TIMEOUT)
            report.record(key, "removed")
    return report


def _other_kind(name: str) -> str:
    """Return what a file is, for example ``pictures``; empty for what may be a document."""
    media_type = mimetypes.guess_type(name)[0] or ""
    if media_type == "video/mp2t":  # the suffix .ts is also that of TypeScript
        return ""
    return _OTHER_KINDS.get(media_type.partition("/")[0], "")


def _report(kind: str, listing: Listing) -> Report:
    """Return a report with what the listing left out."""
    report = Report(kind, problems=list(listing.problems))
    if listing.hidden:
        report.skipped["hidden"] = listing.hidden
    if listing.ignored:
        report.skipped["named by .gitignore"] = listing.ignored
    return report


def _gone(
    stored: Sequence[twin_pb2.Twin | rag_pb2.SourceDocument],
    source: str,
    listing: Listing,
    report: Report,
) -> list[str]:
    """Return the ids of what came from a folder and is no longer in it.

    Nothing is gone if the whole folder is empty, since then a disk may not be mounted, or if a part
    of it cannot be read.
    """
    if listing.problems or not listing.files:
        report.warnings.append(
            "Nothing is removed, because the folder is empty or a part of it cannot be read."
        )
        return []
    present = {file.id for file in listing.files}
    return [one.id for one in stored if one.source == source and one.id not in present]


def _renamed(earlier: Sequence[twin_pb2.Twin], added: Sequence[twin_pb2.Twin]) -> list[str]:
    """Return the ids, derived from titles, of twins that now have their paths as ids.

    Earlier versions of memetwin took the id from the title, so that one of two pictures with the
    same name replaced the other.
    """
    pictures = {(one.title, one.digest) for one in added}
    present = {one.id for one in added}
    return [
        one.id
        for one in earlier
        if not one.source
        and one.id not in present
        and one.id == _earlier_id(one.title)
        and (one.title, one.digest) in pictures
    ]


def _earlier_id(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _twins(stub: twin_pb2_grpc.TwinServiceStub) -> Iterator[twin_pb2.Twin]:
    request = twin_pb2.ListTwinsRequest(page_size=PAGE_SIZE)
    while True:
        reply = stub.ListTwins(request, timeout=TIMEOUT, wait_for_ready=True)
        yield from reply.twins
        if not reply.next_page_token:
            return
        request.page_token = reply.next_page_token


def _documents(
    stub: rag_pb2_grpc.RagServiceStub, collection: str
) -> Iterator[rag_pb2.SourceDocument]:
    request = rag_pb2.ListDocumentsRequest(collection=collection, page_size=PAGE_SIZE)
    while True:
        reply = stub.ListDocuments(request, timeout=TIMEOUT)
        yield from reply.documents
        if not reply.next_page_token:
            return
        request.page_token = reply.next_page_token


def _add_picture(
    stub: twin_pb2_grpc.TwinServiceStub, file: File, source: str, tags: dict[str, list[str]]
) -> twin_pb2.AddTwinResponse | str:
    """Add a picture; return the reply, or what is wrong with the picture."""
    title = file_id(file.path.stem)[:MAX_TITLE_CHARACTERS]
    try:
        request = twin_pb2.AddTwinRequest(
            id=file.id,
            title=title,
            image=file.path.read_bytes(),
            tags=tags.get(title, []),
            source=source,
        )
        return stub.AddTwin(request, timeout=TIMEOUT, wait_for_ready=True)
    except OSError as error:
        return str(error.strerror)
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() in _PICTURE_ERRORS:
            return str(error.details())
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


def _tags(folder: Path, report: Report) -> dict[str, list[str]]:
    file = folder / TAGS_FILE
    try:
        tags = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        report.problems.append(f"{TAGS_FILE}: {error}")
        return {}
    if not isinstance(tags, dict):
        report.problems.append(f"{TAGS_FILE}: The file must have an object with tags by title.")
        return {}
    return {title: list(map(str, each)) for title, each in tags.items() if isinstance(each, list)}
