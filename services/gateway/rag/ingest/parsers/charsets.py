"""Decodes text files: by byte order mark, declared charset, UTF-8, or a detector."""

import codecs
import re
from importlib import import_module

from services.gateway.rag.ingest.parsers.extract import ParseError

# The longer marks come first, since UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What files contain that declare these, by https://encoding.spec.whatwg.org/#names-and-labels.
_LABELS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "utf-16": "utf-16-le",
}
# Windows' extensions of these are what browsers decode.
_ALIASES = {"x-sjis": "cp932", "x-gbk": "gb18030", "windows-874": "cp874", "windows-31j": "cp932"}
_WESTERN = "cp1252"
# Codecs that Python lists as encodings of texts, and that no text file has.
_NO_CHARSETS = frozenset(
    "idna mbcs oem punycode raw_unicode_escape undefined unicode_escape utf-7".split()
)
_DETECTED_BYTES = 2**20
# ISO-2022-JP switches to Japanese by these bytes, all of which are ASCII.
_JAPANESE = (b"\x1b$B", b"\x1b$@")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_SAMPLE_BYTES = 2**16
_MAX_CONTROL_SHARE = 0.01
_MIN_ZERO_SHARE = 0.4
_REPLACEMENT = "\ufffd"
_MIN_VALID_PER_BAD = 4


def decode(content: bytes, declared: str = "") -> tuple[str, list[str]]:
    """Decode a text file and turn CRLF into LF. Return the text and warnings.

    Args:
        content: the file.
        declared: the charset that the sender or the file names, or empty.

    Raises:
        ParseError: the file is not a text, or its encoding is not known.
    """
    text, warnings = _decode(content, declared)
    return text.replace("\r\n", "\n"), warnings


def codec(label: str) -> str:
    """Return the name of Python's codec for the label of a charset; empty if there is none."""
    label = label.strip().strip("\"'").lower()
    try:
        found = codecs.lookup(_ALIASES.get(label, label))
    except (LookupError, ValueError):
        return ""
    name = found.name
    if not found._is_text_encoding or name.replace("-escape", "_escape") in _NO_CHARSETS:
        return ""
    return _LABELS.get(name, name)


def marked(content: bytes) -> tuple[str, int]:
    """Return the encoding that a byte order mark names, and the mark's length."""
    for mark, name in _MARKS:
        if content.startswith(mark):
            return name, len(mark)
    return "", 0


def _decode(content: bytes, declared: str) -> tuple[str, list[str]]:
    mark, length = marked(content)
    if mark:
        text = _try(content[length:], mark)
        if text is None:
            raise _unknown(f"The file begins like {mark.upper()} and is not valid {mark.upper()}.")
        return text, []
    name = codec(declared)
    # A page that is valid UTF-8 is UTF-8, whatever else of the West it claims to be.
    names = ["utf-8", name] if name in ("", _WESTERN) else [name, "utf-8"]
    # Zero bytes are valid UTF-8, but no text has as many as UTF-16 has.
    wide = "" if name else _wide(content[:_SAMPLE_BYTES])
    for one in filter(None, [wide, *names]):
        if (text := _try(content, one)) is not None and not _is_escaped(content, one):
            return text, [_guessed(one)] if one == wide else _warnings(declared, name, one)
    return _detect(content)


def _try(content: bytes, name: str) -> str | None:
    try:
        return content.decode(name)
    except UnicodeError:
        return None


def _is_escaped(content: bytes, name: str) -> bool:
    """Return whether a text that is valid UTF-8 is ISO-2022-JP."""
    return name == "utf-8" and any(mark in content for mark in _JAPANESE)


def _warnings(declared: str, name: str, used: str) -> list[str]:
    if not declared or name in (used, _WESTERN):
        return []
    problem = f"is not valid {declared[:40]}" if name else f"declares {declared[:40]!r}"
    return [f"The text {problem}. It was read as {used.upper()}."]


def _detect(content: bytes) -> tuple[str, list[str]]:
    """Decode a file that declares no encoding, or a wrong one. Return the text and a warning."""
    sample = content[:_SAMPLE_BYTES]
    if len(_CONTROL.findall(sample)) > len(sample) * _MAX_CONTROL_SHARE:
        raise ParseError(
            "UNSUPPORTED_BINARY", "This is a binary file, not a text. Send a document."
        )
    if any(mark in content for mark in _JAPANESE):
        names = ["iso2022_jp_2"]
    elif repaired := _repaired(content):
        return repaired
    else:
        detector = import_module("chardetng_py")  # few documents need it
        names = [codec(detector.detect(content[:_DETECTED_BYTES])), _WESTERN]
    for name in filter(None, names):
        if (text := _try(content, name)) is not None:
            return text, [_guessed(name)]
    raise _unknown("The text is not valid UTF-8, and its encoding cannot be detected.")


def _repaired(content: bytes) -> tuple[str, list[str]] | None:
    """Decode a text that is UTF-8 except for a few bytes, or return None."""
    text = content.decode("utf-8", "replace")
    bad = text.count(_REPLACEMENT)
    others = len(text) - len(text.encode("ascii", "ignore")) - bad
    if bad * _MIN_VALID_PER_BAD > others:
        return None
    return text, [f"{bad} characters are not valid UTF-8 and were replaced by {_REPLACEMENT}."]


def _wide(sample: bytes) -> str:
    """Return which UTF-16 the zero bytes of a sample reveal, or nothing."""
    half = max(1, len(sample) // 2)
    even, odd = sample[::2].count(0) / half, sample[1::2].count(0) / half
    if max(even, odd) < _MIN_ZERO_SHARE or min(even, odd) > _MAX_CONTROL_SHARE:
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def _guessed(name: str) -> str:
    return (
        f"The text is not UTF-8 and declares no other encoding. It was read as {name}."
        " If characters are wrong, declare its charset or convert it to UTF-8."
    )


def _unknown(problem: str) -> ParseError:
    return ParseError(
        "NOT_UTF8", f"{problem} Convert it to UTF-8, or declare its charset in the media type."
    )
