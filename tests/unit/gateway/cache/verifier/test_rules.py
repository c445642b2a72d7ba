import pytest

from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import Verifier
from services.gateway.cache.verifier.rules import MAX_CHARACTERS, differing

KNOWN = Verifier.load()._rarity.__contains__


def difference(one: str, other: str) -> str:
    left, right = LexicalText(one), LexicalText(other)
    found = differing(left, right, KNOWN)
    assert found == differing(right, left, KNOWN)
    return found


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("What is 1 + 1?", "What is 21 + 1?", "number"),
        ("a one way ticket", "a two way ticket", "number"),
        ("What is new in version 3.11?", "What is new in version 3.12?", "number"),
        ("What is 2 + 3?", "What is 2 * 3?", "symbol"),
        ("What does json.load return?", "What does json.loads return?", "code"),
        ("How do I set max_age?", "How do I set max_size?", "code"),
        ("Where can I buy part 7741-A?", "Where can I buy part 7741-B?", "code"),
        ("How do I read a file in C?", "How do I read a file in C++?", "symbol"),
        ("Is the shop open on Sunday?", "Is the shop open on Saturday?", "class"),
        ("Coffee with milk", "Coffee without milk", "class"),
        ("Is this legal?", "Is this illegal?", "opposite"),
        ("flights from Paris to London", "flights from London to Paris", "order"),
        ("Who is the mayor of Springfield?", "Who is the mayor of Shelbyville?", "name"),
        ("Which rooms have a view?", "Which rooms have no view?", "negation"),
        ("Why can I log in?", "Why can't I log in?", "negation"),
        ("Who invented the telephone?", "When was the telephone invented?", "asked"),
        ("How long is the bridge?", "How wide is the bridge?", "asked"),
        ("What was the price?", "What will the price be?", "tense"),
        ("Who is the president?", "Who was the president?", "tense"),
        ("Do all birds fly?", "Do some birds fly?", "quantity"),
        ("Show only drafts", "Show drafts", "quantity"),
        ("What is my balance?", "What is your balance?", "owner"),
        ("Can I pay you with points?", "Can you pay me with points?", "owner"),
        ("buy one get one", "buy two get one", "number"),
        ("Can I still return it?", "Can I no longer return it?", "negation"),
        ("Jak włączyć tryb ciemny?", "Jak wyłączyć tryb ciemny?", "language"),
        ("👍", "👎", "language"),
        ("如何打开暗模式", "如何关闭暗模式", "language"),
        ("खोलना", "खुलना", "language"),  # only a mark differs
        ("What does 打开 mean?", "What does 关闭 mean?", "language"),
        ("Is the 👍 for me?", "Is the 👎 for me?", "language"),
        ("Who is Alice?", "Who is Bob?", "name"),
        ("List flights until Monday", "List flights from Monday", "class"),
        ("List orders before May", "List orders from May", "class"),
        ("Is it on the ground floor?", "Is it on the top floor?", "class"),
        ("Are all employees covered?", "Are some employees covered?", "quantity"),
        ("Is this plant toxic?", "Is this plant non-toxic?", "negation"),
        ("What does ls -l do?", "What does ls -a do?", "symbol"),
        ("What does a > b mean?", "What does a < b mean?", "symbol"),
        ("What does x += 1 mean?", "What does x -= 1 mean?", "symbol"),
        ("how do i install zsh", "how do i install kubectl", "name"),
    ],
)
def test_differences_are_named(one: str, other: str, kind: str) -> None:
    assert difference(one, other) == kind


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I reset my password?", "How can I reset my password?"),
        ("How can I return an item I bought?", "How do I return a product that I bought?"),
        ("Can't I return it?", "Can I return it?"),  # a rhetorical question
        ("What does json.load return?", "What does JSON.load give back?"),
        ("How do I read a file with json.load?", "How do I read a JSON file?"),
        ("How do I know if a guy likes me or not?", "How do I tell if a guy likes me?"),
        ("How can I learn to sing?", "Where can I learn to sing?"),
        ("How much time does it take?", "How long does it take?"),
        ("What are all the bootcamps?", "What are some bootcamps?"),
        ("How do I reset my password?", "How do you reset your password?"),
        ("Who was the most powerful lord?", "Who is the most powerful lord?"),
        ("Top ten movies", "Top 10 movies"),
        ("Who is the author of Hamlet?", "Who was the author of Hamlet?"),
        ("Which are all the good books?", "Which are some good books?"),
        ("Where do I find flights from Monday on?", "Where do I find flights since Monday?"),
        ("What does ls -l do?", "what does ls -l do"),
        ("Is it 11:30?", "Is it 11.30?"),
        ("What is 2+2?", "What's 2 + 2?"),
        ("Wo ist mein Paket?", "wo ist mein Paket"),
        ("👍", " 👍 "),
        ("how do i install kubctl", "how do i install kubectl"),
        ("How do I greet a café owner?", "How can I greet a café owner?"),
    ],
)
def test_paraphrases_do_not_differ(one: str, other: str) -> None:
    assert difference(one, other) == ""


def test_names_in_titles_are_not_told_apart() -> None:
    assert difference("How To Find A Cheap Flight Online", "How To Get A Cheap Flight Online") == ""
    assert difference("Is it Mac or Dell?", "Is it Macbook or Dell?") == ""


def test_long_texts_must_have_equal_words() -> None:
    long = "what is the meaning of this clause " * (MAX_CHARACTERS // 30)
    assert difference(long, long.upper()) == ""
    assert difference(long, long + "now") == "long"


def test_how_a_prompt_is_written_makes_no_difference() -> None:
    assert difference("Wo wohnt Müller?", "Wo wohnt Mu\u0308ller?") == ""
    assert difference("Wann fährt das Dampf\u00adschiff?", "Wann fährt das Dampfschiff?") == ""
    assert difference("Was ist 5²?", "Was ist 52?") != ""
