"""Parses EPUB books: the chapters in reading order, each of which is an HTML page."""

import posixpath
import zipfile
from urllib.parse import unquote

from lxml import etree

from services.gateway.rag.ingest.parsers import html, office
from services.gateway.rag.ingest.parsers.builder import ExtractBuilder
from services.gateway.rag.ingest.parsers.extract import Extract, ParseError

_CONTAINER, _ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
_PAGES = ("application/xhtml+xml", "text/html")


def parse(content: bytes, _: str = "") -> Extract:
    """Parse a book (https://www.w3.org/TR/epub-33/).

    Raises:
        ParseError: the book is broken, encrypted or too large.
    """
    with office.readable("EPUB"), office.open_zip(content) as archive:
        root = office.parse_xml(archive.read(_CONTAINER)).find(".//{*}rootfile")
        package = unquote(root.get("full-path")) if root is not None else ""
        book = office.parse_xml(archive.read(package))
        built = ExtractBuilder()
        locked = _locked(archive)
        for chapter in _chapters(book, posixpath.dirname(package)):
            if chapter in locked:
                raise ParseError(
                    "LOCKED_DOCUMENT", "The EPUB is encrypted. Send a copy without protection."
                )
            if chapter in archive.NameToInfo:
                page = html.parse(archive.read(chapter))
                built.add_extract(page)
                built.warnings += page.warnings
            else:
                built.warnings.append(f"The chapter {chapter[:200]!r} is missing.")
        return built.build(book.findtext(".//{http://purl.org/dc/elements/1.1/}title") or "")


def _chapters(book: etree._Element, folder: str) -> list[str]:
    """Return the paths of the pages in reading order."""
    items = {one.get("id"): one for one in book.iterfind(".//{*}manifest/{*}item")}
    listed = [items.get(one.get("idref")) for one in book.iterfind(".//{*}spine/{*}itemref")]
    return [
        posixpath.normpath(posixpath.join(folder, unquote(one.get("href", ""))))
        for one in listed
        if one is not None and one.get("media-type") in _PAGES
    ]


def _locked(archive: zipfile.ZipFile) -> set[str]:
    """Return the paths of the encrypted files. Fonts often are."""
    if _ENCRYPTION not in archive.NameToInfo:
        return set()
    found = office.parse_xml(archive.read(_ENCRYPTION)).iterfind(".//{*}CipherReference")
    return {unquote(one.get("URI", "")) for one in found}
