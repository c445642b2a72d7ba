from services.gateway.rag.ingest.parsers import plain


def test_blocks_are_paragraphs() -> None:
    extract = plain.parse("One\ntwo.\r\n\r\n  Three é.\n".encode())
    assert extract.text == "One\ntwo.\n\n  Three é.\n"
    assert [extract.text[one.start : one.end] for one in extract.blocks] == [
        "One\ntwo.",
        "Three é.",
    ]


def test_a_paragraph_of_many_lines_is_a_table() -> None:
    rows = "1,2,3\n" * 5_000
    assert [one.by_lines for one in plain.parse(f"One.\n\n{rows}".encode()).blocks] == [False, True]


def test_a_text_is_read_by_its_charset() -> None:
    extract = plain.parse("é".encode("latin-1"), "latin-1")
    assert (extract.text, extract.warnings) == ("é", [])
    guessed = plain.parse("Le café ouvre à huit heures.".encode("cp1252"))
    assert guessed.text == "Le café ouvre à huit heures."
    assert "windows-1252" in guessed.warnings[0] or "cp1252" in guessed.warnings[0]


def test_code_is_divided_at_lines() -> None:
    extract = plain.parse_code(b"import a\n\n\ndef b():\n    return 1\n")
    assert [(one.by_lines, extract.text[one.start : one.end]) for one in extract.blocks] == [
        (True, "import a"),
        (True, "def b():\n    return 1"),
    ]
