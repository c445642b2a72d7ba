"""Small documents that are expensive to parse.

They are generated, so the repository has no such files.
"""

import zlib


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
