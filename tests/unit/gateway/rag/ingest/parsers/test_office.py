import zipfile

import pytest
from lxml import etree

from services.gateway.rag.ingest.parsers import office
from services.gateway.rag.ingest.parsers.extract import ParseError
from tests.office_files import zipped


@pytest.mark.parametrize(
    "error", [zipfile.BadZipFile("x"), KeyError("x"), etree.XMLSyntaxError("x", 1, 1, 1)]
)
def test_a_broken_file_is_named(error: Exception) -> None:
    with pytest.raises(ParseError) as caught, office.readable("Word document"):
        raise error
    assert caught.value.reason == "BROKEN_DOCUMENT"
    assert caught.value.message.startswith("The Word document is broken")


def test_a_lack_of_memory_is_no_broken_file() -> None:
    with pytest.raises(MemoryError), office.readable("Word document"):
        raise MemoryError


def test_what_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = zipped({"a": b"x" * 100, "b": b"y"})
    monkeypatch.setattr(office, "MAX_UNPACKED_BYTES", 100)
    with pytest.raises(ParseError) as caught:
        office.open_zip(content)
    assert caught.value.reason == "DOCUMENT_TOO_COMPLEX"
    monkeypatch.setattr(office, "MAX_UNPACKED_BYTES", 101)
    assert office.open_zip(content).namelist() == ["a", "b"]
    monkeypatch.setattr(office, "MAX_MEMBERS", 1)
    with pytest.raises(ParseError):
        office.open_zip(content)


def test_entities_are_not_resolved() -> None:
    secret = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>b&x;c</a>'
    assert "".join(office.parse_xml(secret.encode()).itertext()).replace("&x;", "") == "bc"
