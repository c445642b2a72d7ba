from services.gateway.cache.context_text import CONTEXT_CHARACTERS, text_in_context


def test_the_users_last_messages_come_before_the_prompt() -> None:
    assert text_in_context("And in Paris?", []) == "And in Paris?"
    said = [("user", "one"), ("user:Ann", "two"), ("assistant", "no"), ("user", "three")]
    assert text_in_context("four", said) == "two\nthree\nfour"


def test_only_the_end_of_long_messages_counts() -> None:
    long = text_in_context("four", [("user", "x" * 1000)])
    assert long == "x" * CONTEXT_CHARACTERS + "\nfour"
