"""Reads lines of Markdown and rows of tables: their text, without signs."""

import re

_IMAGE = re.compile(r"\[?!\[[^\[\]\n]{0,300}\]\([^()\n]{0,500}\)(?:\]\([^()\n]{0,500}\))?")
_DELIMITER_ROW = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
_CODE_LINE = re.compile(
    r"(?:.*[;{}]\s*$)|(?:\s*(?://|/\*|\*/|#include|#!|@\w+\s*(?:\(|$)|<\?|</?\w[^>]*>\s*$))"
    r"|(?:\s*(?:def|class|import|from|return|func|fn|let|const|var|public|private|package|export|"
    r"async|await|elif|else:|try:|except)\b)|(?:\s*[\w.\[\]\"'-]+\s*[+:]?=\s*\S)|(?:\s*[})\]]+[;,]?$)"
)
_MARKUP = (
    (_IMAGE, ""),
    (re.compile(r"!?\[([^\[\]\n]{0,300})\]\([^()\s]{0,500}(?:\s+\"[^\"\n]{0,200}\")?\)"), r"\1"),
    (re.compile(r"!?\[([^\[\]\n]{1,300})\]\[[^\[\]\n]{0,100}\]"), r"\1"),
    (re.compile(r"<br\s*/?>|</?(?:b|i|em|strong|code|kbd|sub|sup)(?:\s[^>\n]{0,200})?>"), ""),
    (re.compile(r"(?<![\w*\\])(\*{1,3})(?=[^\s*])([^*\n]{1,500}?)(?<=[^\s*\\])\1(?![\w*])"), r"\2"),
    (re.compile(r"(?<![\w_\\])(_{1,3})(?=[^\s_])([^_\n]{1,500}?)(?<=[^\s_\\])\1(?![\w_])"), r"\2"),
    (re.compile(r"~~(?=\S)([^~\n]{1,500}?)(?<=\S)~~"), r"\1"),
    (re.compile(r"(`{1,2})(?!`)\s?([^`\n]{1,500}?)\s?(?<!`)\1(?!`)"), r"\2"),
    (re.compile(r"\\([\\`*_{}\[\]()#+.!|>~-])"), r"\1"),
)  # fmt: skip


def without_markup(text: str) -> str:
    """Return a line or a paragraph without the signs of Markdown, on one line."""
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def is_image(line: str) -> bool:
    """Return whether a line consists of images only, such as badges."""
    return "![" in line and not _IMAGE.sub("", line).strip()


def heading_key(heading: str) -> str:
    """Return a heading in the form in which headings are compared."""
    return " ".join(without_markup(heading).casefold().split())


def cells(line: str) -> list[str]:
    """Return the cells of a row of a table."""
    row = line.strip().removeprefix("|")
    row = row[:-1] if row.endswith("|") and not row.endswith("\\|") else row
    return [without_markup(cell) for cell in re.split(r"(?<!\\)\|", row)]


def is_delimiter_row(line: str) -> bool:
    """Return whether a line divides a table's header from its rows."""
    return bool(line.strip()) and "-" in line and bool(_DELIMITER_ROW.match(line))


def is_header(rows: list[list[str]]) -> bool:
    """Return whether the first row names the columns, as far as its words can tell."""
    first, second = rows[0], rows[1]
    is_labelled = all(": " in cell for cell in second if cell)
    has_numbers = any(character.isdigit() for cell in first for character in cell)
    return len(first) == len(second) and not is_labelled and not has_numbers


def is_code(lines: list[str]) -> bool:
    """Return whether most lines of a paragraph look like code."""
    found = sum(
        line.startswith(("    ", "\t"))
        or (bool(_CODE_LINE.match(line)) and not line.rstrip().endswith("."))
        for line in lines
    )
    return found * 2 > len(lines)


def dedented(lines: list[str]) -> str:
    """Return lines without the indentation that all of them have."""
    indents = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    return "\n".join(line[min(indents, default=0) :] for line in lines).strip("\n")
