import pytest

from services.gateway.verifier import contradicts, probability


@pytest.mark.parametrize(
    ("one", "other", "sign"),
    [
        ("Turn dark mode on", "Turn dark mode off", "opposite"),
        ("What is 1+1?", "What is 21+1?", "number"),
        ("Weather in 2019", "Weather in 2020", "number"),
        ("I have two cats", "I have three cats", "number"),
        ("Can I eat it?", "Can I not eat it?", "negation"),
        ("It isn't open", "It is open", "negation"),
        ("How do I reset my password?", "How can I reset a password?", ""),
        ("Population of 1,000 towns", "population of 1000 towns", ""),
    ],
)
def test_signs_of_another_question(one: str, other: str, sign: str) -> None:
    assert contradicts(one, other) == contradicts(other, one) == sign


def test_probability_rises_with_similarity() -> None:
    values = [probability(cosine / 10) for cosine in range(-10, 11)]
    assert values == sorted(values)
    assert 0 < values[0] < 0.01
    assert 0.8 < values[-1] < 1
