from services.gateway.rag.citations import cite, cite_statements, statements
from services.gateway.rag.ingest.segmentation import Span
from tests.fakes.passages import passage


def cited(text: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The document and the statement of each citation, and the unsupported sentences."""
    passages = [passage("A door opens.", "a", start=100), passage("It shuts.", "b")]
    every = statements(text, len(passages))
    citations = cite_statements(every, passages)
    return (
        [(one.document, text[one.start : one.end]) for one in citations],
        [one.span.of(text) for one in every if not one.numbers],
    )


def test_a_mark_cites_its_sentence() -> None:
    assert cited("It opens [1]. It shuts [2][1]. Nobody knows.") == (
        [("a", "It opens [1]."), ("b", "It shuts [2][1]."), ("a", "It shuts [2][1].")],
        ["Nobody knows."],
    )


def test_marks_after_a_full_stop_belong_to_the_sentence_before() -> None:
    assert cited("It opens. [1] It shuts. [2], [1].") == (
        [("a", "It opens. [1]"), ("b", "It shuts. [2], [1]."), ("a", "It shuts. [2], [1].")],
        [],
    )


def test_marks_at_the_beginning_cite_what_follows() -> None:
    assert cited("[2] It shuts.") == ([("b", "[2] It shuts.")], [])
    assert cited("") == ([], [])


def test_a_citation_quotes_the_place_in_the_document() -> None:
    citation = cite(passage("A door opens.", "a", start=100), Span(2, 6), Span(7, 9))
    assert (citation.quote, citation.source_start, citation.source_end) == ("door", 102, 106)
    assert (citation.start, citation.end, citation.chunk) == (7, 9, "a#0")


def test_a_number_without_words_is_no_sentence() -> None:
    assert cited("1. It opens [1].\n\n2. It shuts [2].") == (
        [("a", "It opens [1]."), ("b", "It shuts [2].")],
        [],
    )


def test_code_cites_nothing() -> None:
    text = "Use `list[1]` here [2]. See the code:\n\n```\nlist[1] = list[2]\n```"
    assert cited(text)[0] == [("b", "Use `list[1]` here [2].")]
