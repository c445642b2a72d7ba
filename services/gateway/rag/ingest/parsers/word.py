"""Parses Word documents (.docx): paragraphs, headings, tables, text boxes and footnotes."""

import re
from collections.abc import Iterator
from io import BytesIO

from docx.opc.constants import CONTENT_TYPE
from docx.opc.part import PartFactory
from docx.oxml.ns import qn
from docx.package import Package
from docx.parts.document import DocumentPart
from lxml import etree

from services.gateway.rag.ingest.parsers import office
from services.gateway.rag.ingest.parsers.builder import ExtractBuilder
from services.gateway.rag.ingest.parsers.extract import Extract, Headings

_MACROS = "application/vnd.ms-word.{}.macroEnabled{}.main+xml"
# Templates and documents with macros have the same parts.
PartFactory.part_type_for |= dict.fromkeys(
    (
        CONTENT_TYPE.WML_DOCUMENT_MAIN.replace(".document.main", ".template.main"),
        *(_MACROS.format(*one) for one in (("document", ""), ("template", "Template"))),
    ),
    DocumentPart,
)
_P, _TBL, _TR, _TC, _T = (qn(f"w:{name}") for name in ("p", "tbl", "tr", "tc", "t"))
_BREAKS = {qn("w:br"): "\n", qn("w:cr"): "\n", qn("w:tab"): "\t", qn("w:noBreakHyphen"): "-"}
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_UNSEEN = (qn("w:del"), qn("w:moveFrom"), _FALLBACK)
_VALUE = qn("w:val")
_HEADING = re.compile(r"heading (\d)", re.I)
_NOTES = ("/footnotes", "/endnotes")
_MAX_STYLES_BASED_ON = 20
_BODY_TEXT = "9"


def parse(content: bytes, _: str = "") -> Extract:
    """Parse a Word document.

    Raises:
        ParseError: the document is broken or too large.
    """
    with office.readable("Word document"):
        office.open_zip(content).close()
        part = Package.open(BytesIO(content)).main_document_part
        return _Document(part).read()


class _Document(ExtractBuilder):
    """Collects the text of a document block by block."""

    def __init__(self, part: DocumentPart) -> None:
        super().__init__()
        self._part = part
        self._levels = dict(_levels(part.styles.element))
        self._title = self._first_heading = ""

    def read(self) -> Extract:
        body = self._part.element.body
        self._add_all(_seen(body))
        self.headings = Headings()
        for relation in self._part.rels.values():
            if relation.reltype.endswith(_NOTES) and not relation.is_external:
                self._add_all(_seen(office.parse_xml(relation.target_part.blob)))
        given = self._part.package.core_properties.title
        return self.build(self._title or given or self._first_heading)

    def _add_all(self, parent: etree._Element) -> None:
        """Append the paragraphs and tables in an element, also those in content controls."""
        pending = [parent]
        while pending:
            element = pending.pop()
            if element.tag == _P:
                self._add_paragraph(element)
            elif element.tag == _TBL:
                self._add_table(element)
            else:
                pending += reversed(element)

    def _add_paragraph(self, paragraph: etree._Element) -> None:
        text = _text(paragraph)
        level = self._level(paragraph)
        if level is None:
            self.add(text)
            return
        self.add_heading(level, text)
        self._first_heading = self._first_heading or text
        self._title = self._title or (text if level == 0 else "")

    def _level(self, paragraph: etree._Element) -> int | None:
        """Return the level of a heading, 0 for a title; None for other paragraphs."""
        if level := _outline_level(paragraph):
            return level
        style = paragraph.find(f"{qn('w:pPr')}/{qn('w:pStyle')}")
        return self._levels.get(style.get(_VALUE, "")) if style is not None else None

    def _add_table(self, table: etree._Element) -> None:
        rows: list[str] = []
        for row in _nearest(table, _TR):
            cells = list(_nearest(row, _TC))
            if len(cells) == 1:  # a frame around a text
                self.add_rows(rows)
                rows = []
                self._add_all(cells[0])
            else:
                rows.append(" | ".join(" ".join(_text(cell).split()) for cell in cells).strip(" |"))
        self.add_rows([row for row in rows if row])


def _levels(styles: etree._Element) -> Iterator[tuple[str, int]]:
    """Yield the ids of the styles of headings with their levels."""
    by_id = {one.get(qn("w:styleId")): one for one in styles.iter(qn("w:style"))}
    for key, one in by_id.items():
        style = one
        for _ in range(_MAX_STYLES_BASED_ON):
            if (level := _style_level(style)) is not None:
                yield key, level
                break
            base = style.find(qn("w:basedOn"))
            style = by_id.get(base.get(_VALUE)) if base is not None else None
            if style is None:
                break


def _style_level(style: etree._Element) -> int | None:
    name = style.find(qn("w:name"))
    text = name.get(_VALUE, "") if name is not None else ""
    if text.lower() == "title":
        return 0
    if match := _HEADING.fullmatch(text):
        return int(match[1])
    return _outline_level(style)


def _outline_level(element: etree._Element) -> int | None:
    """Return the level, from 1, that a paragraph or a style declares."""
    outline = element.find(f"{qn('w:pPr')}/{qn('w:outlineLvl')}")
    level = int(outline.get(_VALUE, _BODY_TEXT)) if outline is not None else int(_BODY_TEXT)
    return level + 1 if level < int(_BODY_TEXT) else None


def _seen(parent: etree._Element) -> etree._Element:
    """Remove what Word does not show: deleted text, hidden text and second versions."""
    etree.strip_elements(parent, *_UNSEEN, with_tail=False)
    for hidden in list(parent.iter(qn("w:vanish"))):
        run = hidden.getparent().getparent()
        if (
            run is not None
            and run.tag == qn("w:r")
            and hidden.get(_VALUE, "1") not in ("0", "false")
        ):
            run.getparent().remove(run)
    return parent


def _text(parent: etree._Element) -> str:
    """Return the text of a paragraph, or of the paragraphs of a cell."""
    parts = []
    for element in parent.iter(_T, _P, *_BREAKS):
        if element.tag == _T:
            parts.append(element.text or "")
        elif element.tag == _P:
            parts.append("" if element is parent else "\n")
        elif element.getparent().tag == qn("w:r"):  # other tabs are places, not text
            parts.append(_BREAKS[element.tag])
    return "".join(parts)


def _nearest(parent: etree._Element, tag: str) -> Iterator[etree._Element]:
    """Yield the elements with a tag below a parent, but none that lies in another one."""
    pending = list(reversed(parent))
    while pending:
        element = pending.pop()
        if element.tag == tag:
            yield element
        else:
            pending += reversed(element)
