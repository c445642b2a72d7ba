"""Parses HTML into its visible text, without scripts, styles and navigation."""

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from services.gateway.rag.ingest.parsers.extract import Block, Extract, Headings, ParseError, add

_SKIPPED = frozenset("script style noscript template nav svg math head iframe object".split())
_BLOCKS = frozenset(
    """address article aside blockquote body caption center dd details dialog div dl dt fieldset
    figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr html legend li main ol option p pre
    section summary table tbody td tfoot th thead tr ul""".split()
)
_ROWS = frozenset(("li", "tr", "dt", "dd", "option"))
_CELLS = frozenset(("td", "th"))
_HEADING = re.compile(r"h([1-6])")
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{1,40})", re.I)
_SPACE = re.compile(r"\s+")
# The HTML standard's algorithm takes time quadratic in the depth of a page.
MAX_DEPTH = 5_000
_TAG = re.compile(rb"<(?:(!--)|(/?)([a-z][a-z0-9]*))")
# The end of a comment, or of an element whose content has no tags.
_RAW_ENDS = {b"!--": b"-->"} | {
    name: b"</" + name for name in b"script style textarea title xmp noscript iframe".split()
}
# Elements without an end tag, and elements whose end tag is often omitted.
_UNNESTED = frozenset(
    b"""area base body br col colgroup dd dt embed head hr html img input li link meta optgroup
    option p param rb rp rt rtc source tbody td tfoot th thead tr track wbr""".split()
)


def parse(content: bytes) -> Extract:
    """Parse an HTML page. Bytes that cannot be decoded become U+FFFD.

    Raises:
        ParseError: the page is nested too deeply or has too many blocks.
    """
    _check_depth(content)
    tree = LexborHTMLParser(_decode(content))
    page = _Page()
    if tree.body is not None:
        page.walk(tree.body)
    element = tree.css_first("title")
    title = _SPACE.sub(" ", element.text()).strip() if element is not None else ""
    return Extract(page.text(), page.blocks, title or page.heading)


def _check_depth(content: bytes) -> None:
    """Raise ParseError if a page is nested too deeply, before the parser builds its tree."""
    page, place, depth = content.lower(), 0, 0
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


def _decode(content: bytes) -> str:
    declared = _CHARSET.search(content[:1024])
    names = [declared[1].decode("ascii")] if declared else []
    for name in ["utf-8-sig", *names, "cp1252"]:
        try:
            return content.decode(name)
        except (UnicodeError, LookupError):
            continue
    return content.decode("utf-8", errors="replace")


class _Page:
    """Collects the text of a page block by block. ``heading`` is the first heading."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.heading = ""
        self._headings = Headings()
        self._parts: list[str] = []
        self._length = 0
        self._inline: list[str] = []
        self._preformatted = 0

    def text(self) -> str:
        return "".join(self._parts)

    def walk(self, root: LexborNode) -> None:
        """Visit a tree in document order, without recursion, since pages can be nested deeply."""
        pending: list[tuple[LexborNode, bool]] = [(root, False)]
        while pending:
            node, left = pending.pop()
            if left:
                self._leave(node.tag or "")
            elif node.is_text_node:
                self._inline.append(node.text_content or "")
            elif self._enter(node):
                pending.append((node, True))
                pending += [(one, False) for one in reversed(list(node.iter(include_text=True)))]
        self._flush("")

    def _enter(self, node: LexborNode) -> bool:
        tag = node.tag or ""
        if tag in _SKIPPED or "hidden" in node.attributes:
            return False
        if tag == "br":
            self._inline.append("\n")
        if tag in _BLOCKS and tag not in _CELLS:
            self._flush("")
        self._preformatted += tag == "pre"
        return True

    def _leave(self, tag: str) -> None:
        if tag in _CELLS:
            self._inline.append(" | ")
        elif tag in _BLOCKS:
            self._flush(tag)
        self._preformatted -= tag == "pre"

    def _flush(self, tag: str) -> None:
        """Close the current block. ``tag`` is the element that ends there, or empty."""
        text, self._inline = "".join(self._inline), []
        if self._preformatted:
            text = text.strip("\n").rstrip()
        else:
            text = _SPACE.sub(" ", text).strip(" |" if tag == "tr" else " ")
        if not text.strip():
            return
        if level := _HEADING.fullmatch(tag):
            self._headings.enter(int(level[1]), text)
            self.heading = self.heading or text
        self._add_block(text, tag)

    def _add_block(self, text: str, tag: str) -> None:
        if self._parts:
            self._append("\n" if tag in _ROWS else "\n\n")
        start = self._length
        self._append(text)
        by_lines = bool(self._preformatted)
        add(self.blocks, Block(start, self._length, by_lines, str(self._headings)))

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)
