import pytest

from services.gateway.cache.verifier.language import is_english
from services.gateway.cache.verifier.lexical_text import LexicalText, stem
from services.gateway.cache.verifier.model import Verifier


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("How do I reset my password?", True),
        ("python list sort", True),
        ("Who is Quentin Tarantino?", True),  # names are unknown words
        ("2 + 2", True),
        ("", False),
        ("👍", False),
        ("如何打开暗模式", False),
        ("как включить тёмную тему", False),
        ("¿cómo activo el modo oscuro?", False),
        ("Wie schalte ich den Dunkelmodus ein?", False),
        ("Come cambio la password?", False),
        ("trains de Paris à Lyon", False),
        ("Karanlık mod nasıl açılır?", False),
        ("encender la luz", False),
    ],
)
def test_english_is_told_by_its_words(text: str, english: bool) -> None:
    known = Verifier.load()._rarity
    words = LexicalText(text).words
    assert is_english(words, lambda word: stem(word) in known) is english
