"""Parses PDF: the text of the pages in order, and the outline as sections."""

import contextlib
import re

import pypdfium2 as pdfium

from services.gateway.rag.ingest.parsers.extract import (
    MAX_TEXT_BYTES,
    Block,
    Extract,
    Headings,
    ParseError,
    add,
    trim,
)

PAGE_BREAK = "\n\f\n"
_MAX_PAGE_WARNINGS = 10
MAX_PAGES = 20_000
_SAMPLE_PAGES = 10
_PICTURE = pdfium.raw.FPDF_PAGEOBJ_IMAGE
# PDFium's marks for a hyphen that divides a word at the end of a line.
_SOFT_HYPHEN = re.compile("[\ufffe\x02]\r?\n?")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_PASSWORD = "password"  # noqa: S105 - a word in PDFium's error message


def parse(content: bytes, _: str = "") -> Extract:
    """Parse a PDF. The warnings name the pages that cannot be read.

    Raises:
        ParseError: the file is broken, locked or a scan, or has too many pages or blocks.
    """
    try:
        document = pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        raise _unreadable(str(error)) from error
    try:
        _check_pages(len(document))
        return _extract(document)
    finally:
        document.close()


def _check_pages(count: int) -> None:
    if count > MAX_PAGES:
        raise ParseError(
            "DOCUMENT_TOO_COMPLEX",
            f"The PDF has {count:,} pages. The limit is {MAX_PAGES:,}. Split it.",
        )


def _extract(document: pdfium.PdfDocument) -> Extract:
    pages, bad, size = [], [], 0
    for number in range(len(document)):
        try:
            pages.append(_page_text(document, number))
        except pdfium.PdfiumError:
            pages.append("")
            bad.append(number + 1)
        size += len(pages[-1])
        if size > MAX_TEXT_BYTES:
            raise ParseError("TOO_LARGE", "The PDF has over 32 MiB of text. Split it.")
    if not any(map(str.strip, pages)) and _has_pictures(document):
        raise ParseError(
            "SCANNED_PDF",
            "The PDF is a scan: its pages are pictures without text. Make the text readable by OCR"
            " and send it again.",
        )
    sections = _sections(document, len(pages))
    text, start = PAGE_BREAK.join(pages), 0
    blocks: list[Block] = []
    for number, page in enumerate(pages):
        for place in trim(text, start, start + len(page)):
            add(blocks, Block(*place, section=sections[number], page=number + 1))
        start += len(page) + len(PAGE_BREAK)
    title = document.get_metadata_value("Title").strip()
    return Extract(text, blocks, _UNSTORABLE.sub("", title), warnings=_warnings(bad, pages))


def _page_text(document: pdfium.PdfDocument, number: int) -> str:
    page = document[number]
    try:
        text: str = page.get_textpage().get_text_bounded()
    finally:
        page.close()
    text = _SOFT_HYPHEN.sub("", text).replace("\r\n", "\n")
    return _UNSTORABLE.sub("", text)


def _has_pictures(document: pdfium.PdfDocument) -> bool:
    """Return whether one of the first pages shows a picture."""
    for number in range(min(len(document), _SAMPLE_PAGES)):
        with contextlib.suppress(pdfium.PdfiumError):
            page = document[number]
            try:
                if next(page.get_objects(filter=[_PICTURE], max_depth=3), None):
                    return True
            finally:
                page.close()
    return False


def _sections(document: pdfium.PdfDocument, count: int) -> list[str]:
    """Return the outline's headings that apply to each page."""
    headings, starts = Headings(), {}
    try:
        for entry in document.get_toc():
            target = entry.get_dest()
            page = target.get_index() if target else None
            headings.enter(entry.level, _UNSTORABLE.sub("", entry.get_title()))
            if page is not None:
                starts[page] = str(headings)
    except pdfium.PdfiumError:
        return [""] * count
    sections, section = [], ""
    for number in range(count):
        section = starts.get(number, section)
        sections.append(section)
    return sections


def _warnings(bad: list[int], pages: list[str]) -> list[str]:
    warnings = [f"Page {number} cannot be read." for number in bad[:_MAX_PAGE_WARNINGS]]
    empty = sum(not page.strip() for page in pages) - len(bad)
    if empty:
        warnings.append(
            f"{empty} of {len(pages)} pages have no text. memetwin does not read scanned pages."
        )
    return warnings


def _unreadable(message: str) -> ParseError:
    if _PASSWORD in message.lower():
        return ParseError(
            "LOCKED_PDF", "The PDF is password-protected. Remove the password and send it again."
        )
    return ParseError("BROKEN_PDF", "The PDF is broken and cannot be opened. Export it again.")
