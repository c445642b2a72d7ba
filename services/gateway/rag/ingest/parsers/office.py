"""Opens Office documents and other ZIP files within bounds."""

import contextlib
import zipfile
from collections.abc import Iterator
from io import BytesIO

from lxml import etree

from services.gateway.rag.ingest.parsers.extract import ParseError

MAX_MEMBERS = 20_000
# The process limits the memory, too. This limit has the clearer message.
MAX_UNPACKED_BYTES = 512 * 2**20
# XML parsers raise SyntaxError, and ZIP files with a password raise RuntimeError.
_BROKEN = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, SyntaxError, RuntimeError, EOFError),
    *(LookupError, ValueError, AttributeError, TypeError, ArithmeticError, AssertionError),
)


@contextlib.contextmanager
def readable(kind: str) -> Iterator[None]:
    """Turn what libraries raise for a broken file into ParseError; ``kind`` names the file."""
    try:
        yield
    except _BROKEN as error:
        raise ParseError(
            "BROKEN_DOCUMENT",
            f"The {kind} is broken and cannot be opened. Save or export it again.",
        ) from error


def open_zip(content: bytes) -> zipfile.ZipFile:
    """Open a ZIP file.

    Raises:
        ParseError: it unpacks to too much.
        zipfile.BadZipFile: it is broken.
    """
    archive = zipfile.ZipFile(BytesIO(content))
    members = archive.infolist()
    if len(members) > MAX_MEMBERS or sum(one.file_size for one in members) > MAX_UNPACKED_BYTES:
        raise ParseError(
            "DOCUMENT_TOO_COMPLEX", "The document unpacks to too many or too large files. Split it."
        )
    return archive


def parse_xml(content: bytes) -> etree._Element:
    """Parse XML without resolving entities and without the network."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    return etree.fromstring(content, parser)
