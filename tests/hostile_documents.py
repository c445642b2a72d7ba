"""Small documents that are expensive to parse.

They are generated, so the repository has no such files.
"""

import zipfile
import zlib
from io import BytesIO
from itertools import pairwise

from tests import office_files

_BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {new} "{10 * f"&{old};"}">' for old, new in pairwise("abcdefghij"))
    + "]>"
)
_WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def pdf_of_many_glyphs(count: int) -> bytes:
    """Return a one-page PDF with ``count`` drawing operations, compressed to almost nothing."""
    drawn = zlib.compress(b"BT /F1 11 Tf 50 780 Td " + b"(a) Tj " * count + b"ET", 9)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842]"
        b" /Resources << /Font << /F1 3 0 R >> >> /Contents 5 0 R >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(drawn), drawn),
    ]
    return _pdf(objects)


def pdf_of_many_pages(count: int) -> bytes:
    """Return a PDF that shows one empty page ``count`` times."""
    return _pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b"3 0 R " * count, count),
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>",
        ]
    )


def nested_html(depth: int) -> bytes:
    """Return a page of nested elements, which the HTML standard parses in quadratic time."""
    return b"<div>" * depth + b"deep"


def slow_html(rules: int = 120_000) -> bytes:
    """Return a page whose depth is accepted and which still takes seconds to parse.

    At each ``<hr>``, the parser searches the whole depth for an open paragraph.
    """
    return b"<div>" * 4_900 + b"<hr>" * rules + b"text"


def zip_bomb(size: int = 2**30) -> bytes:
    """Return a small Word document whose text unpacks to ``size`` bytes."""
    return _with_member(office_files.word([]), "word/document.xml", bytes(size))


def large_paragraph(size: int = 2**28) -> bytes:
    """Return a small Word document whose only paragraph has ``size`` bytes."""
    text = f"<w:document {_WORD}><w:body><w:p><w:r><w:t>{'a' * size}".encode()
    end = b"</w:t></w:r></w:p></w:body></w:document>"
    return _with_member(office_files.word([]), "word/document.xml", text + end)


def entity_bomb_in_word() -> bytes:
    """Return a Word document with an entity of a billion letters."""
    text = f"{_BOMB}<w:document {_WORD}><w:body><w:p><w:r><w:t>&j;</w:t></w:r></w:p></w:body>"
    return _with_member(office_files.word([]), "word/document.xml", f"{text}</w:document>".encode())


def entity_bomb_in_workbook() -> bytes:
    """Return a workbook with an entity of a billion letters."""
    text = f'{_BOMB}<worksheet xmlns="{_SHEET}"><sheetData><row r="1"><c r="A1" t="inlineStr">'
    text += "<is><t>&j;</t></is></c></row></sheetData></worksheet>"
    return _with_member(
        office_files.workbook({"A": [["x"]]}), "xl/worksheets/sheet1.xml", text.encode()
    )


def file_entity_in_workbook(path: str) -> bytes:
    """Return a workbook whose cell shows a file of the machine, if a parser reads it."""
    text = f'<!DOCTYPE x [<!ENTITY f SYSTEM "file://{path}">]><worksheet xmlns="{_SHEET}">'
    text += '<sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>Cell: &f;</t></is></c></row>'
    return _with_member(
        office_files.workbook({"A": [["x"]]}),
        "xl/worksheets/sheet1.xml",
        f"{text}</sheetData></worksheet>".encode(),
    )


def file_entity_in_word(path: str) -> bytes:
    """Return a Word document that shows a file of the machine, if a parser reads it."""
    text = f'<!DOCTYPE x [<!ENTITY f SYSTEM "file://{path}">]><w:document {_WORD}><w:body>'
    text += "<w:p><w:r><w:t>Text: &f;</w:t></w:r></w:p></w:body></w:document>"
    return _with_member(office_files.word([]), "word/document.xml", text.encode())


def entity_bomb_in_epub() -> bytes:
    """Return a book whose title is an entity of a billion letters."""
    return _with_member(
        office_files.epub("A", ["<p>x"]),
        "OEBPS/book.opf",
        f"{_BOMB}<package>&j;</package>".encode(),
    )


def wide_workbook(rows: int = 20_000) -> bytes:
    """Return a workbook of rows whose last cell is in the last column."""
    cells = "".join(f'<row r="{n}"><c r="XFD{n}"><v>1</v></c></row>' for n in range(1, rows + 1))
    text = f'<worksheet xmlns="{_SHEET}"><sheetData>{cells}</sheetData></worksheet>'
    return _with_member(
        office_files.workbook({"A": [["x"]]}), "xl/worksheets/sheet1.xml", text.encode()
    )


def nested_json(depth: int = 100_000) -> bytes:
    """Return JSON of nested lists."""
    return b"[" * depth + b"]" * depth


def long_json_paths(depth: int = 900, leaves: int = 2_000) -> bytes:
    """Return JSON whose values have long paths, which grow with the depth."""
    member = b'{"%s":' % (b"k" * 1000)
    numbers = b"[" + b"{},".join([b""] * leaves) + b'{"a": 1}]'
    return member * depth + numbers + b"}" * depth


def nested_rst(depth: int = 2_000) -> bytes:
    """Return reStructuredText of nested quotes."""
    return b"".join(b" " * level + b"a\n\n" for level in range(depth))


def nested_tables(depth: int = 1_000) -> bytes:
    """Return a page of nested tables."""
    return b"<table><tr><td>" * depth + b"deep"


def _with_member(archive: bytes, name: str, content: bytes) -> bytes:
    """Return a ZIP file with another content of one file."""
    with zipfile.ZipFile(BytesIO(archive)) as opened:
        files = {one: opened.read(one) for one in opened.namelist()}
    return office_files.zipped(files | {name: content})


def _pdf(objects: list[bytes]) -> bytes:
    body, offsets = b"%PDF-1.4\n", []
    for number, data in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, data)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    count = len(objects) + 1
    return body + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer << /Size %d /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (count, table, count, len(body))
    )
