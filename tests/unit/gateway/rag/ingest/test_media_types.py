import pytest

from services.errors import InvalidArgument
from services.gateway.rag.ingest.media_types import (
    MEDIA_TYPES,
    SUFFIXES,
    is_supported,
    media_type,
    with_charset,
)
from services.gateway.rag.ingest.parsers import files


def test_an_unsupported_declared_type_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        media_type("application/zip", "a.md", b"x")
    assert caught.value.reason == "UNKNOWN_MEDIA_TYPE"
    assert "text/markdown" in caught.value.message


@pytest.mark.parametrize(
    ("declared", "name", "content", "kind"),
    [
        ("", "a.md", b"# x", "text/markdown"),
        ("", "a", b"%PDF-1.4", "application/pdf"),
        ("", "a.txt", b"\n <!doctype HTML><p>", "text/html"),
        ("", "page.html", b"<p>", "text/html"),
        ("", "a.zip", b"x", "text/plain"),
        ("Text/HTML; charset=utf-8", "a.md", b"x", "text/html"),
        ("application/octet-stream", "a.md", b"x", "text/markdown"),
        ("text/csv; header=present", "a", b"x", "text/csv"),
        ("application/vnd.api+json", "a", b"{}", "application/json"),
        ("text/x-python", "a", b"x", "text/x-source"),
        ("application/xml", "a", b"<a/>", "text/x-source"),
        ("text/plain", "a", b"%PDF-1.4", "application/pdf"),
        ("text/plain", "a", b"<html>", "text/plain"),
        ("", "A.CSV", b"a,b", "text/csv"),
        ("", "a.py", b"<html>", "text/x-source"),
        ("", "notes", b"# x", "text/plain"),
        ("", "a", b"<!-- saved --> <?xml version='1.0'?>\n<HTML lang=en>", "text/html"),
        ("", "a", b"<!-- a --><!-- b --><p>x", "text/html"),
        ("", "a.txt", b"<p>x", "text/plain"),
        ("", "a.md", b"<!-- badges --><p align=center>x</p>", "text/markdown"),
        ("", "a", "\ufeff<!DOCTYPE html>".encode("utf-16-be"), "text/html"),
        ("", "a", b"<!--" * 3_000, "text/plain"),
        ("", "a", b"<!---->" * 1_200 + b"x", "text/plain"),
    ],
)
def test_the_media_type_is_detected(declared: str, name: str, content: bytes, kind: str) -> None:
    assert media_type(declared, name, content) == kind


def test_every_media_type_has_a_parser() -> None:
    assert files.PARSERS.keys() == set(MEDIA_TYPES)


def test_a_drawing_is_a_picture() -> None:
    for page in (b"<svg>", b"<?xml version='1.0'?><!DOCTYPE svg PUBLIC 'a'><!-- x --><svg a='b'>"):
        with pytest.raises(InvalidArgument) as caught:
            media_type("", "a.svg", page)
        assert caught.value.reason == "UNSUPPORTED_PICTURE"


def test_suffixes_are_distinct() -> None:
    listed = " ".join(SUFFIXES.values()).split()
    assert len(listed) == len(set(listed))


def test_clients_that_guess_are_ignored() -> None:
    assert is_supported("text/csv; charset=utf-8")
    assert not any(map(is_supported, ("", "application/octet-stream", "image/png")))


def test_a_charset_is_kept() -> None:
    assert with_charset("text/html", "text/html") == "text/html"
    assert with_charset("text/html", 'text/html; Charset = "GBK"') == "text/html;charset=GBK"
