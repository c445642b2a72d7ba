import pytest

from services.errors import InvalidArgument
from services.gateway.rag.ingest.file_signatures import DOCX, EPUB, PDF, PPTX, XLSX, identify
from tests import office_files
from tests.pdf import pdf

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
OPEN_DOCUMENT = "application/vnd.oasis.opendocument."


def compound(stream: str) -> bytes:
    return OLE + bytes(504) + stream.encode("utf-16-le")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (pdf([["One."]]), PDF),
        (b"\xef\xbb\xbf\r\n%PDF-1.7", PDF),
        (office_files.word([("", "One.")]), DOCX),
        (office_files.slides([("One", ["Two"])]), PPTX),
        (office_files.workbook({"One": [["Two"]]}), XLSX),
        (office_files.epub("One", ["<p>Two"]), EPUB),
        (office_files.zipped({"META-INF/container.xml": "", "mimetype": ""}), EPUB),
        (b"", ""),
        (b"# Guide", ""),
    ],
)
def test_documents_are_recognised(content: bytes, kind: str) -> None:
    assert identify(content) == kind


@pytest.mark.parametrize(
    ("content", "reason", "name"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "UNSUPPORTED_PICTURE", "a picture (PNG)"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "UNSUPPORTED_PICTURE", "a picture (JPEG)"),
        (b"GIF89a\1\0\1\0", "UNSUPPORTED_PICTURE", "a picture (GIF)"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "UNSUPPORTED_PICTURE", "a picture (WebP)"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "UNSUPPORTED_PICTURE", "a picture (HEIC)"),
        (b"\0\0\0\x20ftypisom\0\0\2\0", "UNSUPPORTED_VIDEO", "a video (MP4)"),
        (b"\x1aE\xdf\xa3\x01\0\0", "UNSUPPORTED_VIDEO", "a video (Matroska or WebM)"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "UNSUPPORTED_AUDIO", "a sound recording (WAV)"),
        (b"ID3\4\0\0", "UNSUPPORTED_AUDIO", "a sound recording (MP3)"),
        (office_files.zipped({"a.txt": "x"}), "UNSUPPORTED_ARCHIVE", "an archive (ZIP)"),
        (b"PK\x05\x06" + bytes(18), "UNSUPPORTED_ARCHIVE", "an archive (ZIP)"),
        (b"\x1f\x8b\x08\0", "UNSUPPORTED_ARCHIVE", "an archive (gzip)"),
        (bytes(257) + b"ustar\0", "UNSUPPORTED_ARCHIVE", "an archive (tar)"),
        (b"\x7fELF\2\1\1\0", "UNSUPPORTED_EXECUTABLE", "an executable (ELF)"),
        (b"MZ\x90\0\3", "UNSUPPORTED_EXECUTABLE", "an executable (Windows)"),
        (b"SQLite format 3\0", "UNSUPPORTED_BINARY", "a binary file (SQLite database)"),
        (b"{\\rtf1 x}", "UNSUPPORTED_OFFICE_FORMAT", "a Rich Text document (.rtf)"),
        (b"%!PS-Adobe", "UNSUPPORTED_OFFICE_FORMAT", "a PostScript file"),
        (compound("WordDocument"), "UNSUPPORTED_OFFICE_FORMAT", "a legacy Word document (.doc)"),
        (compound("Workbook"), "UNSUPPORTED_OFFICE_FORMAT", "a legacy Excel workbook (.xls)"),
        (compound("PowerPoint Document"), "UNSUPPORTED_OFFICE_FORMAT", "PowerPoint"),
        (compound("__substg1.0_0037001F"), "UNSUPPORTED_OFFICE_FORMAT", "an Outlook message"),
        (compound("x"), "UNSUPPORTED_BINARY", "OLE compound file"),
        (compound("EncryptedPackage"), "LOCKED_DOCUMENT", "encrypted"),
        (
            office_files.zipped({"mimetype": OPEN_DOCUMENT + "text", "content.xml": ""}),
            "UNSUPPORTED_OFFICE_FORMAT",
            "an OpenDocument text (.odt)",
        ),
        (
            office_files.zipped({"[Content_Types].xml": "", "xl/workbook.bin": ""}),
            "UNSUPPORTED_OFFICE_FORMAT",
            "(.xlsb)",
        ),
        (
            office_files.zipped({"Index/Document.iwa": ""}),
            "UNSUPPORTED_OFFICE_FORMAT",
            "a Pages, Numbers or Keynote document",
        ),
    ],
)
def test_other_files_are_refused_by_what_they_are(content: bytes, reason: str, name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        identify(content)
    assert caught.value.reason == reason
    assert name in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "GIF89a is old.",
        "BMW builds cars.",
        "MZ and ID3.",
        "Convert AVI to MP4.",
        "PK\n",
        "OTTO naps.",
    ],
)
def test_a_text_may_begin_like_another_file(text: str) -> None:
    assert identify(text.encode()) == ""


def test_what_an_archive_contains_does_not_decide() -> None:
    """The central directory of a ZIP file names its files, and no other bytes do."""
    inner = office_files.word([("", "One.")])
    with pytest.raises(InvalidArgument) as caught:
        identify(office_files.zipped({"a.docx": inner}))
    assert caught.value.reason == "UNSUPPORTED_ARCHIVE"


def test_a_broken_document_is_what_it_declares() -> None:
    assert identify(b"PK\x03\x04", DOCX) == DOCX
    with pytest.raises(InvalidArgument):
        identify(b"PK\x03\x04", "text/plain")
