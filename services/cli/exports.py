"""``memetwin export`` and ``memetwin import``: write a collection to a file and read it back.

The file is a sequence of ``ExportCollectionResponse`` messages. Each follows its length, a varint.
The first one holds the collection, the others its documents.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from google.protobuf import proto
from google.protobuf.message import DecodeError
from tqdm import tqdm

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.cli.channels import search_channel, search_option
from services.cli.collections import resolve

_DAY = 86_400
Part = search_pb2.ExportCollectionResponse


@click.command(name="export")
@click.argument("collection")
@click.argument("file", type=click.Path(dir_okay=False, writable=True, path_type=Path))
@search_option()
def export(collection: str, file: Path, search: str) -> None:
    """Write a COLLECTION and all its documents to a FILE."""
    unfinished = file.with_name(f"{file.name}.part")
    try:
        target: Any  # the type stubs of protobuf allow BytesIO only
        with search_channel(search) as channel, unfinished.open("wb") as target:
            stub = search_pb2_grpc.SearchServiceStub(channel)
            request = search_pb2.ExportCollectionRequest(collection=resolve(stub, collection))
            count = 0
            for part in tqdm(
                stub.ExportCollection(request, timeout=_DAY), unit=" parts", disable=None
            ):
                proto.serialize_length_prefixed(part, target)
                count += len(part.documents.documents)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    click.echo(f"{count} documents of {collection} are in {file}.")


@click.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="Name of the collection; by default the name in the file.")
@click.option("--any-engine", is_flag=True, help="Use the default engine of the server.")
@search_option()
def import_file(file: Path, name: str | None, any_engine: bool, search: str) -> None:
    """Create a collection from a FILE that the export command wrote.

    If the collection exists, add the documents to it.
    """
    with search_channel(search) as channel, file.open("rb") as source:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        # Read the whole file first, so that a truncated file creates no collection.
        if not sum(1 for _ in _parts(source)):
            raise click.ClickException(f"The file {file} is empty.")
        source.seek(0)
        parts = _parts(source)
        collection = next(parts).collection
        collection.name = name or collection.name
        if any_engine:
            collection.engine = search_pb2.ENGINE_UNSPECIFIED
        reply = stub.ImportCollection(_requests(collection, parts), timeout=_DAY)
    click.echo(f"{collection.name}: {reply.created} documents created, {reply.updated} updated.")


def _parts(source: Any) -> Iterator[Part]:
    while True:
        try:
            part = proto.parse_length_prefixed(Part, source)
        except (DecodeError, ValueError, EOFError) as error:
            raise click.ClickException(
                "The file is truncated or not an export. Export the collection again."
            ) from error
        if part is None:
            return
        yield part


def _requests(
    collection: search_pb2.Collection, parts: Iterator[Part]
) -> Iterator[search_pb2.ImportCollectionRequest]:
    yield search_pb2.ImportCollectionRequest(collection=collection)
    for part in parts:
        yield search_pb2.ImportCollectionRequest(documents=part.documents)
