"""``memetwin export`` and ``memetwin import``: a collection as a file.

The file is a sequence of ``ExportCollectionResponse``, each after its length as a varint: the
collection first, then its documents.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from google.protobuf import proto
from google.protobuf.message import DecodeError
from tqdm import tqdm

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.cli.channels import channel, search_option
from services.cli.collections import resolve

_DAY = 86_400
Piece = search_pb2.ExportCollectionResponse


@click.command(name="export")
@click.argument("collection")
@click.argument("file", type=click.Path(dir_okay=False, writable=True, path_type=Path))
@search_option()
def export(collection: str, file: Path, search: str) -> None:
    """Write a COLLECTION with all its documents to a FILE."""
    part = file.with_name(f"{file.name}.part")
    try:
        target: Any  # protobuf's types know only BytesIO
        with channel(search) as to, part.open("wb") as target:
            stub = search_pb2_grpc.SearchServiceStub(to)
            request = search_pb2.ExportCollectionRequest(collection=resolve(stub, collection))
            count = 0
            for piece in tqdm(
                stub.ExportCollection(request, timeout=_DAY), unit=" pieces", disable=None
            ):
                proto.serialize_length_prefixed(piece, target)
                count += len(piece.documents.documents)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    click.echo(f"{count} documents of {collection} are in {file}.")


@click.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="Name of the collection, if not the one that was exported.")
@click.option("--any-engine", is_flag=True, help="Take the best engine that the server has.")
@search_option()
def import_file(file: Path, name: str | None, any_engine: bool, search: str) -> None:
    """Create a collection of a FILE that export has written; one that is there is filled up."""
    with channel(search) as to, file.open("rb") as source:
        stub = search_pb2_grpc.SearchServiceStub(to)
        # Read to its end first: half a file shall not become half a collection.
        if not sum(1 for _ in _pieces(source)):
            raise click.ClickException(f"{file} is empty.")
        source.seek(0)
        pieces = _pieces(source)
        first = next(pieces).collection
        first.name = name or first.name
        if any_engine:
            first.engine = search_pb2.ENGINE_UNSPECIFIED
        reply = stub.ImportCollection(_requests(first, pieces), timeout=_DAY)
    click.echo(f"{first.name}: {reply.created} documents created, {reply.updated} updated.")


def _pieces(source: Any) -> Iterator[Piece]:
    while True:
        try:
            piece = proto.parse_length_prefixed(Piece, source)
        except (DecodeError, ValueError, EOFError) as error:
            raise click.ClickException("The file is cut short, or no export.") from error
        if piece is None:
            return
        yield piece


def _requests(
    first: search_pb2.Collection, pieces: Iterator[Piece]
) -> Iterator[search_pb2.ImportCollectionRequest]:
    yield search_pb2.ImportCollectionRequest(collection=first)
    for piece in pieces:
        yield search_pb2.ImportCollectionRequest(documents=piece.documents)
