"""Parses reStructuredText, as docutils and Sphinx write it, by way of HTML."""

from dataclasses import replace
from typing import Any

from docutils import nodes
from docutils.core import publish_doctree, publish_from_doctree
from docutils.parsers.rst import states

from services.gateway.rag.ingest.parsers import charsets, html
from services.gateway.rag.ingest.parsers.extract import SECTION_SEPARATOR, Extract

# Levels of messages. Those of errors quote what docutils could not parse.
_ERROR, _NEVER = 3, 5
# Documents are untrusted: no files, no raw output, no messages.
_SETTINGS = {
    "_disable_config": True,
    "embed_stylesheet": False,
    "file_insertion_enabled": False,
    "halt_level": _NEVER,
    "input_encoding": "unicode",
    "output_encoding": "unicode",
    "raw_enabled": False,
    "report_level": _NEVER,
    "syntax_highlight": "none",
}


def parse(content: bytes, charset: str = "") -> Extract:
    """Parse reStructuredText. Raises ParseError if it is not a text or too complex."""
    text, warnings = charsets.decode(content, charset)
    document = publish_doctree(text, settings_overrides=_SETTINGS)
    for message in list(document.findall(nodes.system_message)):
        if message["level"] >= _ERROR:
            message.parent.replace(message, list(message.findall(nodes.literal_block)))
    page = publish_from_doctree(document, writer="html5", settings_overrides=_SETTINGS)
    extract = html.parse_text(str(page), warnings)
    first_heading = next((one.section for one in extract.blocks if one.section), "")
    title = document.get("title") or first_heading.partition(SECTION_SEPARATOR)[0]
    return replace(extract, title=title)


def _unknown_directive(body: Any, _: str) -> tuple[list[nodes.Node], bool]:
    """Parse the content of a directive that docutils does not know as text, for example Sphinx's.

    docutils itself would leave it out.
    """
    lines, _, offset, blank = body.state_machine.get_first_known_indented(0, strip_indent=False)
    argument = lines[0].partition("::")[2].strip()
    container = nodes.container("", nodes.paragraph(argument, argument))
    content = lines[1:]
    content.trim_left(min((len(one) - len(one.lstrip()) for one in content if one), default=0))
    body.nested_parse(content, offset + 1, container)
    return [container], blank


states.Body.unknown_directive = _unknown_directive
