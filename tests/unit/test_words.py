import unicodedata

import pytest

from services.words import folded, query_words, visible, words

# A text and a query that must find it. Texts and queries differ as those of different programs do.
FOUND = [
    ("東京タワーの高さは三百三十三メートルです。", "東京タワー"),
    ("Mu\u0308ller kommt morgen.", "Müller"),
    ("İstanbul büyük bir şehir.", "istanbul"),
    ("Die Donau\u00addampfschiff\u00adfahrt ruht.", "Donaudampfschifffahrt"),
    ("Code ＡＢＣ１２３ gilt.", "ABC123"),
    ("हिन्दी में लिखा गया लेख", "हिन्दी"),
    ("ค้นหาคำสั่งซื้อของฉัน", "คำสั่งซื้อ"),
    ("我喜欢猫和狗", "猫"),
    ("서울은 한국의 수도이다", "서울"),
    (unicodedata.normalize("NFD", "서울은 수도이다"), "서울"),
    ("ປະເທດລາວ", "ລາວ"),
    ("ភ្នំពេញជារាជធានី", "រាជធានី"),
    ("ရန်ကုန်မြို့", "ရန်ကုန်"),
    ("ﾊﾝｶｸのカタカナ", "ハンカク"),
    ("IĞDIR şehri", "ığdır"),
    ("می\u200cخواهم بروم", "میخواهم"),
    ("the eﬃcient oﬀice", "efficient office"),
    ("a\u200bb\u2060c \u202eright\u202c", "abc right"),
    ("GROẞE STRASSE", "große straße"),
    ("新しいiPhone15を買う", "iphone15"),
    ("2024年の予定", "2024年"),
]


@pytest.mark.parametrize(("text", "query"), FOUND)
def test_a_query_finds_a_text_however_it_is_written(text: str, query: str) -> None:
    wanted = query_words(query)
    assert wanted
    assert set(wanted) <= set(words(text))


@pytest.mark.parametrize(
    ("text", "query"),
    [("東京タワー", "京東"), ("हिन्दी", "हन"), ("ค้นหา", "คาน"), ("Müller", "Muller")],
)
def test_other_words_are_not_found(text: str, query: str) -> None:
    assert not set(query_words(query)) <= set(words(text))


def test_words_are_case_folded() -> None:
    assert words("The STRASSE, straße: Ünï-code 42!") == [
        *("the", "strasse", "strasse", "ünï", "code", "42")
    ]
    assert words("…!") == []
    assert words("A_b c-d don't") == ["a_b", "c", "d", "don", "t"]


def test_scripts_without_spaces_are_split_into_pairs_and_characters() -> None:
    assert words("iPhone手机 東京") == ["iphone", "手机", "手", "机", "東京", "東", "京"]
    assert query_words("手机 東京都 猫") == ["手机", "東京", "京都", "猫"]


def test_a_mark_stays_with_its_letter() -> None:
    assert query_words("कि") == ["कि"]
    assert all(
        unicodedata.category(word[0])[0] == "L" for word in [*words("น้ำมัน"), *words("किताब")]
    )


def test_invisible_characters_vanish() -> None:
    assert visible("so\u00adft \u200fa\ufe0f") == "soft a"
    assert folded("So\u00adft") == "soft"
