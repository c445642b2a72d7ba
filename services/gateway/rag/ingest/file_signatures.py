"""Recognises files by their bytes, and refuses those that are no documents by what they are."""

import re
from typing import NoReturn

from services.errors import InvalidArgument

PDF = "application/pdf"
EPUB = "application/epub+zip"
_OFFICE = "application/vnd.openxmlformats-officedocument."
DOCX = f"{_OFFICE}wordprocessingml.document"
PPTX = f"{_OFFICE}presentationml.presentation"
XLSX = f"{_OFFICE}spreadsheetml.sheet"

_HEAD_BYTES = 1024
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ZIP_END = b"PK\x05\x06"
_DIRECTORY_BYTES = 2**20
# What the kinds are called, and what to do instead.
_KINDS = {
    "UNSUPPORTED_PICTURE": ("a picture", "Add pictures as twins, or send a text."),
    "UNSUPPORTED_VIDEO": ("a video", "Send its transcript."),
    "UNSUPPORTED_AUDIO": ("a sound recording", "Send its transcript."),
    "UNSUPPORTED_ARCHIVE": ("an archive", "Unpack it and send the documents in it."),
    "UNSUPPORTED_EXECUTABLE": ("an executable", "Send a document."),
    "UNSUPPORTED_BINARY": ("a binary file", "Send a document."),
}
_P, _V, _A, _Z, _X, _B = _KINDS
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a]")
_PRINTABLE = re.compile(rb"[ -~]+")
# The offset and the bytes by which a file is recognised, its kind and its format. Printable bytes
# count only if the file also has control characters, since a text may begin with them.
_SIGNATURES = (
    *((0, b"\x89PNG\r\n", _P, "PNG"), (0, b"\xff\xd8\xff", _P, "JPEG"), (0, b"GIF8", _P, "GIF")),
    *((8, b"WEBP", _P, "WebP"), (0, b"BM", _P, "BMP"), (0, b"II*\0", _P, "TIFF")),
    *((0, b"MM\0*", _P, "TIFF"), (0, b"\0\0\1\0", _P, "ICO"), (0, b"8BPS", _P, "Photoshop")),
    *((4, b"ftyphei", _P, "HEIC"), (4, b"ftypmif1", _P, "HEIF"), (4, b"ftypavif", _P, "AVIF")),
    *(
        (4, b"jP  \r\n", _P, "JPEG 2000"),
        (0, b"\xff\x0a", _P, "JPEG XL"),
        (0, b"AT&TFORM", _P, "DjVu"),
    ),
    *((4, b"ftypM4A", _A, "M4A"), (4, b"ftypqt", _V, "QuickTime"), (4, b"ftyp", _V, "MP4")),
    *((0, b"\x1aE\xdf\xa3", _V, "Matroska or WebM"), (8, b"AVI ", _V, "AVI")),
    *((0, b"\0\0\1\xba", _V, "MPEG"), (0, b"\0\0\1\xb3", _V, "MPEG"), (0, b"FLV\1", _V, "Flash")),
    *((0, b"ID3", _A, "MP3"), (0, b"\xff\xfb", _A, "MP3"), (0, b"\xff\xf3", _A, "MP3")),
    *((8, b"WAVE", _A, "WAV"), (0, b"fLaC", _A, "FLAC"), (0, b"OggS", _A, "Ogg")),
    *((0, b"\xff\xf1", _A, "AAC"), (0, b"\xff\xf9", _A, "AAC"), (0, b"MThd", _A, "MIDI")),
    *((0, b"\x1f\x8b", _Z, "gzip"), (0, b"BZh", _Z, "bzip2"), (0, b"\xfd7zXZ\0", _Z, "xz")),
    *((0, b"7z\xbc\xaf", _Z, "7-Zip"), (0, b"Rar!\x1a", _Z, "RAR"), (257, b"ustar", _Z, "tar")),
    *((0, b"\x28\xb5\x2f\xfd", _Z, "Zstandard"), (0, b"MSCF\0", _Z, "cabinet")),
    *((0, _ZIP, _Z, "ZIP"), (0, _ZIP_END, _Z, "ZIP"), (0, b"\x04\x22\x4d\x18", _Z, "LZ4")),
    *((0, b"\x7fELF", _X, "ELF"), (0, b"MZ", _X, "Windows"), (0, b"\xca\xfe\xba\xbe", _X, "Java")),
    *((0, b"\xcf\xfa\xed\xfe", _X, "Mach-O"), (0, b"\xfe\xed\xfa", _X, "Mach-O")),
    *((0, b"\0asm", _X, "WebAssembly"), (0, b"!<arch>\n", _X, "static library")),
    *((0, b"SQLite format 3\0", _B, "SQLite database"), (0, b"PAR1", _B, "Parquet table")),
    *((0, b"\x89HDF", _B, "HDF5"), (0, b"\0\1\0\0\0", _B, "font"), (0, b"OTTO", _B, "font")),
    *(
        (0, b"wOF", _B, "font"),
        (60, b"BOOKMOBI", _B, "Kindle book"),
        (0, b"bplist00", _B, "property list"),
    ),
)
# Streams that only these kinds of OLE files have, and what to save the file as.
_OLE_STREAMS = (
    ("WordDocument", "a legacy Word document (.doc)", ".docx"),
    ("Workbook", "a legacy Excel workbook (.xls)", ".xlsx"),
    ("Book", "a legacy Excel workbook (.xls)", ".xlsx"),
    ("PowerPoint Document", "a legacy PowerPoint presentation (.ppt)", ".pptx"),
    ("__substg1.0_", "an Outlook message (.msg)", "text or PDF"),
)
# Files that only these kinds of ZIP files have.
_ZIP_MEMBERS = ((b"word/", DOCX), (b"ppt/", PPTX), (b"xl/", XLSX))
_ZIP_TYPES = (DOCX, PPTX, XLSX, EPUB)
_IWORK = b"Index/Document.iwa"
_BINARY_WORKBOOK = b"xl/workbook.bin"
_OPEN_DOCUMENT = b"mimetypeapplication/vnd.oasis.opendocument."
_OPEN_DOCUMENTS = (
    (b"text", "an OpenDocument text (.odt)", ".docx"),
    (b"spreadsheet", "an OpenDocument spreadsheet (.ods)", ".xlsx"),
    (b"presentation", "an OpenDocument presentation (.odp)", ".pptx"),
)


def identify(content: bytes, expected: str = "") -> str:
    """Return the media type of a PDF, an Office document or an EPUB; nothing for other texts.

    Args:
        content: the file.
        expected: the media type that the sender or the name declares, which a broken file has.

    Raises:
        InvalidArgument: the file is not a document that memetwin reads; the reason names its kind.
    """
    head = content[:_HEAD_BYTES]
    if head.lstrip(b"\xef\xbb\xbf\0 \t\r\n").startswith(b"%PDF-"):
        return PDF
    if head.startswith(_OLE):
        _refuse_ole(content)
    if head.startswith(_ZIP):
        found = _in_zip(content) or (expected if expected in _ZIP_TYPES else "")
        if found:
            return found
    if head.startswith(b"{\\rtf"):
        _refuse_office("a Rich Text document (.rtf)", ".docx")
    if head.startswith(b"%!PS"):
        _refuse_office("a PostScript file", "PDF")
    is_binary = bool(_CONTROL.search(head))
    for offset, signature, reason, name in _SIGNATURES:
        if head.startswith(signature, offset) and (
            is_binary or not _PRINTABLE.fullmatch(signature)
        ):
            refuse(reason, name)
    return ""


def refuse(reason: str, name: str) -> NoReturn:
    """Raise InvalidArgument for a file of a kind that memetwin does not read."""
    kind, advice = _KINDS[reason]
    raise InvalidArgument(
        reason, f"This is {kind} ({name}), not a text. {advice}", field="content", format=name
    )


def _refuse_office(name: str, target: str) -> NoReturn:
    raise InvalidArgument(
        "UNSUPPORTED_OFFICE_FORMAT",
        f"This is {name}, which memetwin does not read. Save it as {target} and send it again.",
        field="content",
        format=name,
    )


def _refuse_ole(content: bytes) -> NoReturn:
    """Refuse a compound file ([MS-CFB] §2.6): a legacy or an encrypted Office document."""
    sector_size = 2 ** min(12, int.from_bytes(content[30:32], "little"))
    start = (int.from_bytes(content[48:52], "little") + 1) * sector_size
    names = content[start : start + _DIRECTORY_BYTES] + content[:_DIRECTORY_BYTES]
    if "EncryptedPackage".encode("utf-16-le") in names:
        raise InvalidArgument(
            "LOCKED_DOCUMENT",
            "The Office document is encrypted. Remove its password and send it again.",
            field="content",
        )
    for stream, name, target in _OLE_STREAMS:
        if stream.encode("utf-16-le") in names:
            _refuse_office(name, target)
    refuse("UNSUPPORTED_BINARY", "OLE compound file")


def _in_zip(content: bytes) -> str:
    """Return the media type of a ZIP file by the names in its central directory, or nothing."""
    mimetype = content[30 : 30 + 100]
    if mimetype.startswith(b"mimetype" + EPUB.encode()):
        return EPUB
    if mimetype.startswith(_OPEN_DOCUMENT):
        for kind, name, target in _OPEN_DOCUMENTS:
            if mimetype.startswith(_OPEN_DOCUMENT + kind):
                _refuse_office(name, target)
    names = _directory(content)
    if _IWORK in names:
        _refuse_office("a Pages, Numbers or Keynote document", "PDF")
    if b"[Content_Types].xml" in names:
        if _BINARY_WORKBOOK in names:
            _refuse_office("a binary Excel workbook (.xlsb)", ".xlsx")
        return next((kind for member, kind in _ZIP_MEMBERS if member in names), "")
    return EPUB if b"META-INF/container.xml" in names else ""


def _directory(content: bytes) -> bytes:
    """Return the central directory of a ZIP file (APPNOTE.TXT §4.3.16), or its first part."""
    end = content.rfind(_ZIP_END, max(0, len(content) - 2**16 - 22))
    if end < 0:
        return b""
    start = int.from_bytes(content[end + 16 : end + 20], "little")
    return content[start : min(end, start + _DIRECTORY_BYTES)]
