"""The documentation and the code are in plain English and in the words of the field."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import ROOT, RUN, SHOWN, Page, pages

# Words that the code once used for something that the field has a word for.
FIELD_WORDS = {
    r"\bshel(?:f|ves)\b|\bledgers?\b": "store",
    r"\bworth (?:least|most)\b|\b(?:is|are) worth\b(?! \w+ing)": "GDSF priority, or value",
    r"(?<!in )\bflights?\b": "shared call",
    r"\blanes?\b": "worker",
    r"\btall(?:y|ies)\b": "usage, or count",
    r"(?<!round )\btrips?\b": "round trip, or request",
    r"\b(?:a|the|whose|his|its) turn\b": "lease",
    r"\blifted\b|\blift (?:for|of)\b": "metric transform",
    r"\bpatience\b": "timeout, or retries",
    r"\bhottest\b": "maximum temperature",
    r"(?<!hugging )\bfaces?\b": "server, or API",
    r"\bdoorkeepers?\b": "authentication",
}
# Patterns of what a native engineer would not write, and what to write instead.
PHRASES = {
    r"(?<!here )\bis no (?!longer|more)": "is not a",
    r"(?<!here )\bare no (?!longer|more)": "are not",
    r"\bis away\b": "is unreachable",
    r"\bsomebody else\b": "another request",
    r"\bby hand of\b": "with",
    r"\b[Ll]east (?:cosine|similarity|value)\b": "minimum",
    r"\bgoes first\b": "is evicted first",
    r"\bfor want of\b(?! a right)": "because there is no",
    r"\bbe it\b": "whether it is",
    r"\bthat much\b": "",
    r"\bof ours\b": "our",
    r"\bsay so\b": "",
    r"\bas far as\b": "if",
    r"\blikewise\b": "also",
    r"\bhence\b": "so",
    r"\bthereby\b": "",
    r"\bwhereof\b|\bwherein\b|\bthereof\b": "",
    r"\bis told\b": "is reported",
    r"\bgoes on\b": "continues",
    r"\bgo on\b": "continue",
    r"\blets everybody in\b": "admits every caller",
    r"\banew\b(?! *[.;,])": "again",
    r"\bsimply\b|\bjust\b|\beasily\b|\bobviously\b|\bof course\b": "leave it out",
    r"—": "two sentences",
    r"\bplease\b": "leave it out",
    r"!(?=\s|$)": "a full stop",
}
# The same for pages, docstrings and comments.
EVERYWHERE = {
    r"\b(?:Say|Tell) whether\b": "Return whether",
    r"\bunder way\b": "in progress",
    r"\bone another\b": "each other",
    r"\bfor good\b(?! reason)": "permanently",
    r"\b(?:an|no )?other (?:\w+ ){1,2}than\b": "other than",
    r"\bas (?:\w+ ){1,2}ha(?:s|ve) (?:it|them)\b": "as in",
    r"\b(?:after|of|than|to|once|by) so many\b": "this many",
    r"\bof (?:its|their|his) own(?= *[.;,:)]| and\b|$)": "its own, or a separate one",
    r"\b(?:depends?|waits?|knows?|reads?) [^.;,]{1,40}\balone(?= *[.;,:)]|$)": "only",
    r"\w, else\b(?! if)": "or, otherwise",
    r"\bmeets? (?:a|the|this) (?:filter|query)\b": "matches",
    r"\band the like\b": "such as",
    r"\b(?:bits?|bytes?|calls|numbers|object|points?|queries|requests|texts|tokens|writes|ms)"
    r" an? (?:call|channel|line|number|point|query|row|second|text|token)\b": "per",
    r"\bagain and again\b": "repeatedly",
    r"\b(?:broke|breaks?) off\b": "was cut off",
    r"\bin vain\b|\bhence\b|\bthereby\b|\bwherein\b|\bthereof\b|\bwhereof\b": "leave it out",
}
LONGEST_SENTENCE = 40


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.path)
def test_words_are_those_of_the_field(page: Page) -> None:
    for paragraph in _paragraphs(page):
        for pattern, better in FIELD_WORDS.items():
            found = re.search(pattern, paragraph, re.I)
            assert not found, f"{page.path}: {found and found[0]!r}: say {better} in: {paragraph}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.path)
def test_sentences_are_plain_english(page: Page) -> None:
    for paragraph in _paragraphs(page):
        for pattern, better in (PHRASES | EVERYWHERE).items():
            found = re.search(pattern, paragraph)
            assert not found, f"{page.path}: {found and found[0]!r}: say {better!r} in: {paragraph}"


@pytest.mark.parametrize("folder", ["deploy", "protos/memetwin", "services", "tests", "tools"])
def test_docstrings_and_comments_are_plain_english(folder: str) -> None:
    bad = [
        f"{path.relative_to(ROOT)}:{line}: {found[0]!r}: say {better!r}"
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".proto", ".py") and path.name != Path(__file__).name
        for line, text in _prose(path)
        for pattern, better in EVERYWHERE.items()
        if (found := re.search(pattern, text))
    ]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.path)
def test_sentences_are_short(page: Page) -> None:
    for paragraph in _paragraphs(page):
        if "|" not in paragraph:
            for sentence in re.split(r"(?<=[.:;?])\s", paragraph):
                assert len(sentence.split()) <= LONGEST_SENTENCE, f"{page.path}: {sentence}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.path)
def test_blocks_are_run_or_say_why_not(page: Page) -> None:
    for block in page.blocks():
        place = f"{page.path}:{block.line}"
        assert block.language in (*RUN, *SHOWN), f"{place}: {block.language or 'no language'}"
        if "not run" in block.marks:
            assert len(block.marks["not run"].split()) > 2, f"{place}: the reason is missing"
        elif block.language == "sh":
            # These start, stop or install something beside the test's own stack.
            targets = set(re.findall(r"\bmake (?!help|docs)\w+", block.text))
            assert not targets, f"{place}: mark it as not run"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.path)
def test_a_page_begins_with_its_only_title(page: Page) -> None:
    assert page.text.startswith("# ")
    assert (
        len(re.findall(r"^# ", re.sub(r"^```.*?^```", "", page.text, flags=re.M | re.S), re.M)) == 1
    )


def _paragraphs(page: Page) -> list[str]:
    """The paragraphs, list items and table rows, each in one line."""
    parts = re.split(r"\n\s*\n|\n(?=[|#]|[-*] |\d+\. )", page.prose())
    return [" ".join(part.split()) for part in parts if part.strip()]


def _prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the first line and the text of each docstring and each block of comments."""
    text = path.read_text()
    if path.suffix == ".proto":
        text = re.sub(r"^(?! *//).*", "", text, flags=re.M).replace("//", "#")
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        line, _ = token.start
        if token.type == tokenize.COMMENT:
            if line != last + 1:
                yield first, " ".join(block)
                first, block = line, []
            block.append(token.string.lstrip("# "))
            last = line
        elif token.type == tokenize.STRING and token.string.startswith('"""'):
            yield line, " ".join(token.string.split())
    yield first, " ".join(block)
