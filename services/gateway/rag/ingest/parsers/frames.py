"""The frames that pass between the gateway and a parser process: a kind, a length and a payload.

A request is a REQUEST frame (JSON) and a CONTENT frame. A reply is the frames of an extract, which
end with an END frame, or one FAILURE frame (JSON). The frames of an extract are small, so that the
gateway reads them without a pause. They carry no pickles, because the process reads untrusted
files.
"""

import json
import struct
from array import array
from collections.abc import Iterator
from typing import Any

from services.gateway.rag.ingest.parsers.extract import (
    MAX_BLOCKS,
    MAX_TEXT_BYTES,
    Block,
    Extract,
    ParseError,
)

REQUEST, CONTENT, TEXT, SECTIONS, BLOCKS, END, FAILURE = b"RCTSBEF"
HEADER = struct.Struct(">BI")
MAX_FRAME_BYTES = 2**22
MAX_SECTION_CHARACTERS = 8 * 2**20
_TEXT_CHARACTERS = 2**17
_SECTIONS_PER_FRAME = 512
_BLOCKS_PER_FRAME = 1024
_NUMBERS_PER_BLOCK = 5


def frame(kind: int, payload: bytes) -> bytes:
    """Return a frame."""
    return HEADER.pack(kind, len(payload)) + payload


def json_frame(kind: int, data: Any) -> bytes:
    """Return a frame of JSON data. Unpaired surrogates become question marks."""
    return frame(kind, json.dumps(data, ensure_ascii=False).encode(errors="replace"))


def failure_frame(error: ParseError) -> bytes:
    """Return the frame of a failure."""
    return json_frame(FAILURE, {"reason": error.reason, "message": error.message})


def extract_frames(extract: Extract) -> Iterator[bytes]:
    """Yield the frames of an extract. Raises ParseError if its text or headings are too large."""
    size, text = 0, extract.text
    for start in range(0, len(text), _TEXT_CHARACTERS):
        payload = text[start : start + _TEXT_CHARACTERS].encode(errors="replace")
        size += len(payload)
        if size > MAX_TEXT_BYTES:
            limit = MAX_TEXT_BYTES // 2**20
            raise ParseError("TOO_LARGE", f"The document has over {limit} MiB of text. Split it.")
        yield frame(TEXT, payload)
    names = list(dict.fromkeys(block.section for block in extract.blocks))
    if sum(map(len, names)) > MAX_SECTION_CHARACTERS:
        raise ParseError("DOCUMENT_TOO_COMPLEX", "The document has too many headings. Split it.")
    for batch in _batches(names, _SECTIONS_PER_FRAME):
        yield json_frame(SECTIONS, batch)
    sections = {name: number for number, name in enumerate(names)}
    for blocks in _batches(extract.blocks, _BLOCKS_PER_FRAME):
        numbers = array("i")
        for one in blocks:
            numbers.extend((one.start, one.end, one.by_lines, sections[one.section], one.page))
        yield frame(BLOCKS, numbers.tobytes())
    yield json_frame(
        END, {"title": extract.title, "fields": extract.fields, "warnings": extract.warnings}
    )


class ExtractReader:
    """Builds an extract from its frames."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._text_bytes = 0
        self._sections: list[str] = []
        self._section_characters = 0
        self._blocks: list[Block] = []

    def read(self, kind: int, payload: bytes) -> Extract | None:
        """Add a frame. Return the extract after the last one.

        Raises:
            ParseError: the process could not parse the document.
            ValueError: the frame is not valid, or the extract is larger than allowed.
        """
        if kind == TEXT:
            self._text_bytes += len(payload)
            self._texts.append(payload.decode())
        elif kind == SECTIONS:
            self._sections += (sections := json.loads(payload))
            self._section_characters += sum(map(len, sections))
        elif kind == BLOCKS:
            self._add_blocks(payload)
        elif kind == END:
            meta = json.loads(payload)
            text = "".join(self._texts)
            return Extract(text, self._blocks, meta["title"], meta["fields"], meta["warnings"])
        else:
            raise ParseError(**json.loads(payload))
        self._check_sizes()
        return None

    def _add_blocks(self, payload: bytes) -> None:
        numbers = iter(array("i", payload))
        rows = zip(*[numbers] * _NUMBERS_PER_BLOCK, strict=True)
        self._blocks += [
            Block(start, end, bool(by_lines), self._sections[section], page)
            for start, end, by_lines, section, page in rows
        ]

    def _check_sizes(self) -> None:
        if (
            self._text_bytes > MAX_TEXT_BYTES
            or self._section_characters > MAX_SECTION_CHARACTERS
            or len(self._blocks) > MAX_BLOCKS
        ):
            raise ValueError("the extract is larger than allowed")


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
