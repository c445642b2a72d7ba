"""Reads PDF: the text of its pages in order; the outline, if there is one, gives the sections."""

import re
import threading

import pypdfium2 as pdfium

from services.errors import InvalidArgument
from services.gateway.rag.ingest.parsers.extract import Block, Extract, Headings, trimmed

PAGE_BREAK = "\n\f\n"
# PDFium is not safe to use from two threads at once.
_alone = threading.Lock()
# PDFium's mark of a hyphen that the end of a line has made.
_SOFT_HYPHEN = re.compile("[\ufffe\x02]\r?\n?")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_PASSWORD = "password"  # noqa: S105 - a word of PDFium's message


def read(content: bytes) -> Extract:
    """Return what a PDF says; pages that cannot be read are named in the warnings.

    Raises:
        InvalidArgument: it is broken, or locked by a password.
    """
    with _alone:
        try:
            document = pdfium.PdfDocument(content)
        except pdfium.PdfiumError as error:
            raise _unreadable(str(error)) from error
        try:
            return _extract(document)
        finally:
            document.close()


def _extract(document: pdfium.PdfDocument) -> Extract:
    pages, bad = [], []
    for number in range(len(document)):
        try:
            pages.append(_page_text(document, number))
        except pdfium.PdfiumError:
            pages.append("")
            bad.append(number + 1)
    sections = _sections(document, len(pages))
    text, blocks, start = PAGE_BREAK.join(pages), [], 0
    for number, page in enumerate(pages):
        for place in trimmed(text, start, start + len(page)):
            blocks.append(Block(*place, section=sections[number], page=number + 1))
        start += len(page) + len(PAGE_BREAK)
    title = document.get_metadata_value("Title").strip()
    return Extract(text, blocks, _UNSTORABLE.sub("", title), warnings=_warnings(bad, pages))


def _page_text(document: pdfium.PdfDocument, number: int) -> str:
    page = document[number]
    try:
        said: str = page.get_textpage().get_text_bounded()
    finally:
        page.close()
    said = _SOFT_HYPHEN.sub("", said).replace("\r\n", "\n")
    return _UNSTORABLE.sub("", said)


def _sections(document: pdfium.PdfDocument, count: int) -> list[str]:
    """Return the outline's headings above each page."""
    headings, begun = Headings(), {}
    try:
        for entry in document.get_toc():
            target = entry.get_dest()
            page = target.get_index() if target else None
            headings.enter(entry.level, _UNSTORABLE.sub("", entry.get_title()))
            if page is not None:
                begun[page] = str(headings)
    except pdfium.PdfiumError:
        return [""] * count
    sections, section = [], ""
    for number in range(count):
        section = begun.get(number, section)
        sections.append(section)
    return sections


def _warnings(bad: list[int], pages: list[str]) -> list[str]:
    found = [f"Page {number} cannot be read." for number in bad[:10]]
    empty = sum(not page.strip() for page in pages) - len(bad)
    if empty:
        found.append(f"{empty} of {len(pages)} pages hold no text; scans are not read.")
    return found


def _unreadable(said: str) -> InvalidArgument:
    if _PASSWORD in said.lower():
        return InvalidArgument(
            "LOCKED_PDF", "The PDF needs a password; send it unlocked.", field="content"
        )
    return InvalidArgument(
        "BROKEN_PDF", "The PDF is broken and cannot be opened; export it anew.", field="content"
    )
