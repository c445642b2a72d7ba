import pytest

from services.errors import InvalidArgument
from services.gateway.rag.ingest.media_types import MEDIA_TYPES, media_type
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
    ],
)
def test_the_media_type_is_detected(declared: str, name: str, content: bytes, kind: str) -> None:
    assert media_type(declared, name, content) == kind


def test_every_media_type_has_a_parser() -> None:
    assert files.PARSERS.keys() == set(MEDIA_TYPES)
