"""Detects the media type of a document by its content, its declared type, or its name."""

import re
from pathlib import PurePosixPath

from services.errors import InvalidArgument
from services.gateway.rag.ingest import file_signatures
from services.gateway.rag.ingest.file_signatures import DOCX, EPUB, PDF, PPTX, XLSX

PLAIN, MARKDOWN, HTML = "text/plain", "text/markdown", "text/html"
CODE = "text/x-source"
CSV, TSV = "text/csv", "text/tab-separated-values"
JSON, JSON_LINES = "application/json", "application/x-ndjson"
RST = "text/x-rst"
# The media types that have a parser, and the suffixes of their files.
SUFFIXES = {
    PLAIN: "txt text log",
    MARKDOWN: "md markdown mdown mkd mdx qmd rmd",
    HTML: "html htm xhtml xht",
    PDF: "pdf",
    DOCX: "docx docm dotx dotm",
    PPTX: "pptx pptm ppsx potx",
    XLSX: "xlsx xlsm xltx",
    EPUB: "epub",
    CSV: "csv",
    TSV: "tsv tab",
    JSON: "json geojson jsonld webmanifest",
    JSON_LINES: "jsonl ndjson",
    RST: "rst rest",
    CODE: """py pyi js mjs cjs ts tsx jsx java kt kts c h cc cpp cxx hpp hh cs go rs rb php swift
    scala sh bash zsh fish ps1 bat cmd sql r jl lua pl pm hs ml ex exs erl clj dart groovy proto
    graphql css scss less vue svelte yaml yml toml ini cfg conf properties xml xsd xsl tf gradle
    cmake mk diff patch tex""",
}
MEDIA_TYPES = tuple(SUFFIXES)
_BY_SUFFIX = {f".{one}": kind for kind, listed in SUFFIXES.items() for one in listed.split()}
# Other names of media types.
_ALIASES = {
    "application/xhtml+xml": HTML,
    "text/x-markdown": MARKDOWN,
    "application/markdown": MARKDOWN,
    "application/x-pdf": PDF,
    "application/vnd.ms-powerpoint.presentation.macroenabled.12": PPTX,
    "application/vnd.ms-excel.sheet.macroenabled.12": XLSX,
    "application/csv": CSV,
    "text/tsv": TSV,
    "text/json": JSON,
    "application/jsonl": JSON_LINES,
    "application/json-lines": JSON_LINES,
    "application/jsonlines": JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "application/ndjson": JSON_LINES,
    "text/rst": RST,
    "text/prs.fallenstein.rst": RST,
} | dict.fromkeys(
    (
        f"application/{name}"
        for name in """xml yaml x-yaml toml javascript x-javascript typescript ecmascript sql x-sql
        x-sh x-shellscript x-python x-httpd-php x-tex graphql""".split()
    ),
    CODE,
)
# What clients declare that do not know.
_UNDECLARED = ("", "application/octet-stream", "binary/octet-stream")
_CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([^\s;\"']{1,40})", re.I)
_HEAD_BYTES = 2**13
# What may come before the first element (https://mimesniff.spec.whatwg.org/#identifying-a-resource-with-an-unknown-mime-type).
_PROLOGUE = r"\A\ufeff?(?>\s+|<!--(?>.*?-->)|<\?(?>.*?\?>)|<!doctype\s+svg(?>[^>]*>))*+"
_PAGE = re.compile(_PROLOGUE + r"<(?:!doctype\s+html|html|head|body)[\s>/]", re.I | re.S)
_FRAGMENT = re.compile(
    _PROLOGUE + r"<(?:script|iframe|h1|div|font|table|a|style|title|b|br|p)[\s>/]", re.I | re.S
)
_SVG = re.compile(_PROLOGUE + r"<svg[\s>]", re.I | re.S)


def media_type(declared: str, name: str, content: bytes) -> str:
    """Return the media type of the parser for a document.

    The content decides for files that are not texts. Otherwise what the sender declares decides,
    then the suffix of the name, then the content.

    Raises:
        InvalidArgument: no parser supports the content or the declared type.
    """
    by_name = _BY_SUFFIX.get(PurePosixPath(name).suffix.lower(), "")
    if found := file_signatures.identify(content, _supported(_essence(declared)) or by_name):
        return found
    head = _head(content)
    if _SVG.search(head):
        file_signatures.refuse("UNSUPPORTED_PICTURE", "SVG")
    if (essence := _essence(declared)) not in _UNDECLARED:
        if supported := _supported(essence):
            return supported
        raise InvalidArgument(
            "UNKNOWN_MEDIA_TYPE",
            f"The media type is not supported. Send one of {', '.join(MEDIA_TYPES)}.",
            field="media_type",
            media_type=declared,
        )
    if by_name in ("", PLAIN, MARKDOWN) and _PAGE.search(head):
        return HTML
    return by_name or (HTML if _FRAGMENT.search(head) else PLAIN)


def is_supported(declared: str) -> bool:
    """Return whether a parser supports a declared media type."""
    return bool(_supported(_essence(declared)))


def with_charset(kind: str, declared: str) -> str:
    """Return a media type with the charset that the sender declares, if there is one."""
    match = _CHARSET.search(declared)
    return f"{kind};charset={match[1]}" if match else kind


def _essence(declared: str) -> str:
    return declared.partition(";")[0].strip().lower()


def _supported(essence: str) -> str:
    """Return the media type of the parser for a declared media type, or nothing."""
    if essence in SUFFIXES:
        return essence
    if essence in _ALIASES:
        return _ALIASES[essence]
    if essence.endswith("+json"):
        return JSON
    return CODE if essence.startswith("text/") or essence.endswith("/xml") else ""


def _head(content: bytes) -> str:
    """Return the beginning of a document as text, whatever its encoding is."""
    head = content[:_HEAD_BYTES]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", "ignore")
    return head.decode("utf-8", "ignore")
