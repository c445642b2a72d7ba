"""The pages of the documentation as tests see them: fenced blocks, links and headings."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
# Languages whose blocks are run; the others are only shown.
RUN = ("sh", "python", "js", "json", "jsonl")
SHOWN = ("text", "yaml", "mermaid")
_MARK = re.compile(r"<!--\s*([a-z ]+?)\s*(?::\s*(.*?))?\s*-->", re.S)
_MARKDOWN = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: number of its first line in the page, from 1.
        marks: comments right above it, ``<!-- name: value -->``, by name.
        expected: text of the ``text`` block right below it; empty if there is none.
    """

    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)
    expected: str = ""


@dataclass(frozen=True)
class Page:
    """A page: its path below the repository's root, and its Markdown."""

    path: str
    text: str

    @property
    def folder(self) -> Path:
        """The folder that its relative links start from."""
        return (ROOT / self.path).parent

    def blocks(self) -> list[Block]:
        """Return the fenced blocks in order."""
        tokens = _top(_MARKDOWN.parse(self.text))
        found = []
        for number, token in enumerate(tokens):
            if token.type == "fence":
                before = tokens[number - 1] if number else None
                after = tokens[number + 1] if number + 1 < len(tokens) else None
                found.append(_block(before, token, after))
        return found

    def links(self) -> list[str]:
        """Return the targets of links and pictures."""
        inline = [token for token in _MARKDOWN.parse(self.text) if token.type == "inline"]
        children = [child for token in inline for child in token.children or []]
        targets = [child.attrGet("href") or child.attrGet("src") for child in children]
        return [str(target) for target in targets if target]

    def anchors(self) -> set[str]:
        """Return the anchors that GitHub gives the headings."""
        tokens = _MARKDOWN.parse(self.text)
        return {
            _anchor(tokens[number + 1].content)
            for number, token in enumerate(tokens)
            if token.type == "heading_open"
        }

    def prose(self) -> str:
        """Return the text without code, link targets and comments."""
        text = re.sub(r"^```.*?^```", "", self.text, flags=re.M | re.S)
        text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
        text = re.sub(r"`[^`\n]*`", "`code`", text)
        return re.sub(r"\]\([^)]*\)", "]", text)


def pages() -> list[Page]:
    """Return the README, SECURITY.md and every page below ``docs``."""
    paths = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [Page(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]


def page(path: str) -> Page:
    """Return one page."""
    return Page(path, (ROOT / path).read_text())


def _top(tokens: list[Token]) -> list[Token]:
    """Return the tokens of blocks, without closing tokens."""
    return [token for token in tokens if token.nesting >= 0 and token.type != "inline"]


def _block(before: Token | None, fence: Token, after: Token | None) -> Block:
    marks = {}
    if before is not None and before.type == "html_block":
        marks = {name: value or "" for name, value in _MARK.findall(before.content)}
    shown = after is not None and after.type == "fence" and after.info == "text"
    assert fence.map is not None
    return Block(
        line=fence.map[0] + 1,
        language=fence.info.strip(),
        text=fence.content,
        marks=marks,
        expected=after.content if after is not None and shown else "",
    )


def _anchor(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    plain = re.sub(r"[^\w\- ]", "", plain.lower())
    return plain.replace(" ", "-")
