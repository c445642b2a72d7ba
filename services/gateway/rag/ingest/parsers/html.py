"""Parses HTML into its visible text, without scripts, styles, navigation and form controls."""

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from services.gateway.rag.ingest.parsers import charsets
from services.gateway.rag.ingest.parsers.builder import ExtractBuilder
from services.gateway.rag.ingest.parsers.extract import Extract, ParseError

_SKIPPED = frozenset(
    """script style noscript template nav svg math head iframe object embed audio video canvas
    button datalist input meter progress select textarea rp""".split()
)
_BLOCKS = frozenset(
    """address article aside blockquote body caption center dd details dialog div dl dt fieldset
    figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr html legend li main ol option p pre
    section summary table tbody td tfoot th thead tr ul""".split()
)
_ROWS = frozenset(("li", "tr", "dt", "dd", "option"))
_CELLS = frozenset(("td", "th"))
# A cell with one of these lays out a part of a page, so its blocks stay separate.
_LAYOUT_CELLS = "td:has(h1, h2, h3, h4, h5, h6, table, pre)"
_HEADING = re.compile(r"h([1-6])")
_HIDDEN_STYLE = re.compile(r"(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*hidden)\b", re.I)
_CHARSETS = (
    re.compile(rb"\A\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_.:-]{1,40})"),
    re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{1,40})", re.I),
)
_CHARSET_BYTES = 4096
_SPACE = re.compile(r"\s+")
# The HTML standard's algorithm takes time quadratic in the depth of a page.
MAX_DEPTH = 5_000
_TAG = re.compile(r"<(?:(!--)|(/?)([a-z][a-z0-9]*))")
# The end of a comment, or of an element whose content has no tags.
_RAW_ENDS = {"!--": "-->"} | {
    name: "</" + name for name in "script style textarea title xmp noscript iframe".split()
}
# Elements without an end tag, and elements whose end tag is often omitted.
_UNNESTED = frozenset(
    """area base body br col colgroup dd dt embed head hr html img input li link meta optgroup
    option p param rb rp rt rtc source tbody td tfoot th thead tr track wbr""".split()
)


def parse(content: bytes, charset: str = "") -> Extract:
    """Parse an HTML page.

    Args:
        content: the page.
        charset: the charset that the sender declares, or empty.

    Raises:
        ParseError: the page is nested too deeply, has too many blocks, or is not a text.
    """
    text, warnings = charsets.decode(content, charset or _declared(content))
    return parse_text(text, warnings)


def parse_text(text: str, warnings: list[str]) -> Extract:
    """Parse a page that is decoded. Raises ParseError."""
    _check_depth(text)
    tree = LexborHTMLParser(text)
    page = _Page()
    page.warnings += warnings
    if tree.body is not None:
        page.walk(tree.body)
    element = tree.css_first("html > head > title")
    title = _SPACE.sub(" ", element.text()).strip() if element is not None else ""
    return page.build(title or page.first_h1 or page.first_heading)


def _declared(content: bytes) -> str:
    """Return the charset that a page declares: in its XML declaration, or in a meta element."""
    for pattern in _CHARSETS:
        if match := pattern.search(content, 0, _CHARSET_BYTES):
            return match[1].decode("ascii")
    return ""


def _check_depth(text: str) -> None:
    """Raise ParseError if a page is nested too deeply, before the parser builds its tree."""
    page, place, depth = text.lower(), 0, 0
    while match := _TAG.search(page, place):
        place = match.end()
        name = match[1] or match[3]
        if name in _RAW_ENDS and not match[2]:
            place = page.find(_RAW_ENDS[name], place)
            if place < 0:
                return
        elif name not in _UNNESTED and name not in _RAW_ENDS:
            depth = max(0, depth - 1) if match[2] else depth + 1
        if depth > MAX_DEPTH:
            raise ParseError(
                "DOCUMENT_TOO_COMPLEX",
                f"The page has elements nested over {MAX_DEPTH:,} deep. Close its elements.",
            )


class _Page(ExtractBuilder):
    """Collects the text of a page block by block."""

    def __init__(self) -> None:
        super().__init__()
        self.first_h1 = self.first_heading = ""
        self._layout: set[int] = set()
        self._inline: list[str] = []
        self._preformatted = 0
        self._in_cell = False
        self._in_heading = False

    def walk(self, root: LexborNode) -> None:
        """Visit a tree in document order, without recursion, since pages can be nested deeply."""
        self._layout = {cell.mem_id for cell in root.css(_LAYOUT_CELLS)}
        pending: list[tuple[LexborNode, bool]] = [(root, False)]
        while pending:
            node, left = pending.pop()
            if left:
                self._leave(node)
            elif node.is_text_node:
                self._inline.append(node.text_content or "")
            elif self._enter(node):
                pending.append((node, True))
                pending += [(one, False) for one in reversed(list(node.iter(include_text=True)))]
        self._flush("")

    def _enter(self, node: LexborNode) -> bool:
        """Begin an element; return whether its content is visible."""
        tag = node.tag or ""
        if (tag in _SKIPPED and not (tag == "button" and self._in_heading)) or _is_hidden(node):
            return False
        if tag == "br":
            self._inline.append("\n")
        if tag in _CELLS:
            self._in_cell = node.mem_id not in self._layout
            if not self._in_cell:
                self._flush("tr")
        elif tag in _BLOCKS:
            self._separate()
        self._in_heading = self._in_heading or bool(_HEADING.fullmatch(tag))
        self._preformatted += tag == "pre"
        return True

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if node.mem_id in self._layout:
            self._flush("tr")
        elif tag in _CELLS:
            self._in_cell = False
            self._inline.append(" | ")
        elif tag in _BLOCKS:
            self._separate(tag)
        self._in_heading = self._in_heading and not _HEADING.fullmatch(tag)
        self._preformatted -= tag == "pre"

    def _separate(self, tag: str = "") -> None:
        """End the current block; within a cell, only the current word."""
        if self._in_cell:
            self._inline.append(" ")
        else:
            self._flush(tag)

    def _flush(self, tag: str) -> None:
        """Close the current block. ``tag`` is the element that ends there, or empty."""
        text, self._inline = "".join(self._inline), []
        by_lines = bool(self._preformatted)
        if not by_lines:
            text = _SPACE.sub(" ", text).strip(" |" if tag == "tr" else " ")
        if (level := _HEADING.fullmatch(tag)) and text.strip():
            self.headings.enter(int(level[1]), text)
            self.first_heading = self.first_heading or text
            self.first_h1 = self.first_h1 or (text if tag == "h1" else "")
        self.add(text, by_lines=by_lines, gap="\n" if tag in _ROWS else "\n\n")


def _is_hidden(node: LexborNode) -> bool:
    """Return whether an element is neither shown nor read aloud.

    The body always counts as shown: scripts hide it until the page is complete.
    """
    attributes = node.attributes
    return node.tag != "body" and (
        ("hidden" in attributes and (attributes["hidden"] or "").lower() != "until-found")
        or (attributes.get("aria-hidden") or "").lower() == "true"
        or bool(_HIDDEN_STYLE.search(attributes.get("style") or ""))
        or (node.tag == "dialog" and "open" not in attributes)
    )
