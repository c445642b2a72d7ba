"""Parses PowerPoint presentations (.pptx): each slide is a page with its title as section."""

from collections.abc import Iterable
from io import BytesIO
from typing import Any

from pptx.oxml.ns import qn
from pptx.package import Package

from services.gateway.rag.ingest.parsers import office
from services.gateway.rag.ingest.parsers.builder import ExtractBuilder
from services.gateway.rag.ingest.parsers.extract import Extract

_DIAGRAM = "/diagramData"


def parse(content: bytes, _: str = "") -> Extract:
    """Parse a presentation.

    Raises:
        ParseError: the presentation is broken or too large.
    """
    with office.readable("PowerPoint presentation"):
        office.open_zip(content).close()
        presentation = Package.open(BytesIO(content)).presentation_part.presentation
        return _read(presentation)


def _read(presentation: Any) -> Extract:
    built, title, hidden = ExtractBuilder(), "", 0
    for number, slide in enumerate(presentation.slides, 1):
        if slide._element.get("show") in ("0", "false"):
            hidden += 1
            continue
        built.page = number
        shape = slide.shapes.title
        heading = " ".join(shape.text_frame.text.split()) if shape is not None else ""
        title = title or heading
        built.headings.enter(1, heading)
        _add_shapes(built, slide.shapes)
        _add_diagrams(built, slide.part)
        if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame):
            built.add(_paragraphs(notes))
    if hidden:
        built.warnings.append(f"{hidden} hidden slides were left out.")
    return built.build(presentation.core_properties.title or title)


def _add_shapes(built: ExtractBuilder, shapes: Iterable[Any]) -> None:
    pending = list(shapes)[::-1]
    while pending:
        shape = pending.pop()
        if hasattr(shape, "shapes"):
            pending += list(shape.shapes)[::-1]
        elif getattr(shape, "has_table", False):
            rows = ([" ".join(cell.text.split()) for cell in row.cells] for row in shape.table.rows)
            built.add_rows([line for row in rows if (line := " | ".join(row).strip(" |"))])
        elif shape.has_text_frame:
            built.add(_paragraphs(shape.text_frame))


def _add_diagrams(built: ExtractBuilder, part: Any) -> None:
    """Append the texts of diagrams (SmartArt), which lie in parts beside the slide."""
    for relation in part.rels.values():
        if relation.reltype.endswith(_DIAGRAM) and not relation.is_external:
            root = office.parse_xml(relation.target_part.blob)
            for paragraph in root.iter(qn("a:p")):
                built.add("".join(run.text or "" for run in paragraph.iter(qn("a:t"))))


def _paragraphs(frame: Any) -> str:
    """Return the paragraphs of a text frame, each on a line."""
    return "\n".join(paragraph.text.replace("\v", "\n") for paragraph in frame.paragraphs)
