import pytest

from services.gateway.rag.ingest.parsers.charsets import codec, decode
from services.gateway.rag.ingest.parsers.extract import ParseError

TEXTS = {
    "cp1252": [
        "Le café ouvre à huit heures.",
        "“Smart quotes” don’t fail.",
        "Kostar 12 € på Åland.",
    ],
    "cp1250": ["Zażółć gęślą jaźń. Muzeum otwiera się o dziewiątej."],
    "iso8859_2": ["Příliš žluťoučký kůň úpěl ďábelské ódy. Muzeum otevírá v devět hodin."],
    "cp1251": ["Музей открывается в девять часов утра.", "Паром отходит в семь."],
    "koi8_r": ["Музей открывается в девять часов утра.", "Паром отходит в семь."],
    "cp1253": ["Το μουσείο ανοίγει στις εννέα το πρωί."],
    "cp1254": ["Müze sabah dokuzda açılır. İstanbul'da şubat ayı soğuktur."],
    "cp1255": ["המוזיאון נפתח בתשע בבוקר."],
    "cp1256": ["يفتح المتحف في الساعة التاسعة صباحا."],
    "gb18030": ["博物馆早上九点开门。门票十元。", "渡轮七点出发。"],
    "big5": ["博物館早上九點開門。門票十元。"],
    "shift_jis": ["博物館は朝九時に開きます。", "フェリーは七時に出ます。"],
    "euc_jp": ["博物館は朝九時に開きます。", "フェリーは七時に出ます。"],
    "iso2022_jp": ["フェリーは七時に出ます。"],
    "euc_kr": ["박물관은 아침 아홉 시에 엽니다."],
    "utf_16_le": ["The ferry leaves at seven.", "渡轮七点出发。The ferry"],
    "utf_16_be": ["The ferry leaves at seven.", "渡轮七点出发。The ferry"],
}
ALL = [(encoding, text) for encoding, texts in TEXTS.items() for text in texts]


@pytest.mark.parametrize(("encoding", "text"), ALL)
def test_an_encoding_is_detected_with_a_warning(encoding: str, text: str) -> None:
    found, warnings = decode(text.encode(encoding))
    assert found == text
    assert "It was read as" in warnings[0]


@pytest.mark.parametrize(("encoding", "text"), ALL)
def test_a_declared_charset_needs_no_warning(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding), encoding.upper()) == (text, [])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_decides(encoding: str) -> None:
    content = "The ferry leaves at 七.\r\n".encode(encoding)
    assert decode(content) == decode(content, "latin-1") == ("The ferry leaves at 七.\n", [])


def test_utf8_is_recognised_also_if_a_page_claims_to_be_western() -> None:
    assert decode("café a\r\nb\rc".encode(), "iso-8859-1") == ("café a\nb\rc", [])
    # These two characters of GB2312 are also valid UTF-8.
    assert decode("联通".encode("gb2312"), "gb2312") == ("联通", [])


def test_a_wrong_declaration_is_named() -> None:
    assert decode(b"caf\xe9", "utf-8")[0] == "café"
    assert decode(b"x", "no-such") == ("x", ["The text declares 'no-such'. It was read as UTF-8."])
    assert "is not valid shift_jis" in decode(b"\xc3\xa9\xef\xbf\xbdx\xff"[:6], "shift_jis")[1][0]


def test_a_few_bad_bytes_do_not_change_the_encoding() -> None:
    text = "Le café ouvre à huit heures et le musée à dix heures, où l'entrée est gratuite."
    assert decode(text.encode() + b"\xff") == (
        text + "\ufffd",
        ["1 characters are not valid UTF-8 and were replaced by \ufffd."],
    )
    assert decode("フェリーは七時に出ます。".encode()[:-1])[0] == "フェリーは七時に出ます\ufffd"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (bytes(range(256)) * 10, "UNSUPPORTED_BINARY"),
        (b"\xff\xfe broken", "NOT_UTF8"),
        (b"\x00\x00\xfe\xff\xff", "NOT_UTF8"),
    ],
)
def test_what_is_no_text_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ParseError) as caught:
        decode(content)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (" 'UTF8' ", "utf-8"),
        ("ISO-8859-1", "cp1252"),
        ("us-ascii", "cp1252"),
        ("gbk", "gb18030"),
        ("x-sjis", "cp932"),
        ("ks_c_5601-1987", "cp949"),
        ("base64", ""),
        ("undefined", ""),
        ("utf-7", ""),
        ("unicode_escape", ""),
        ("\0", ""),
        ("", ""),
    ],
)
def test_labels_name_codecs(label: str, name: str) -> None:
    assert codec(label) == name
