import pytest

from services.gateway.cache.verifier.word_order import roles_of, swaps_roles


def swaps(one: str, other: str) -> bool:
    found = swaps_roles(roles_of(one), roles_of(other))
    assert found == swaps_roles(roles_of(other), roles_of(one))
    return found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("flights from Paris to London", "flights from London to Paris"),
        ("convert pdf to word", "convert word to pdf"),
        ("Is Python faster than Java?", "Is Java faster than Python?"),
        ("Did Google buy Apple?", "Did Apple buy Google?"),
        ("Did Google acquire Apple?", "Was Google acquired by Apple?"),
        ("Did Rome beat Carthage?", "Was Rome beaten by Carthage?"),
        ("Is my father's brother here?", "Is my brother's father here?"),
        ("Should I eat before I exercise?", "Should I exercise before I eat?"),
        ("upgrade from version 2 to version 3", "upgrade from version 3 to version 2"),
        ("Is it 3 in Tokyo and noon in Rome?", "Is it 3 in Rome and noon in Tokyo?"),
        ("How many feet are in a mile?", "How many miles are in a foot?"),
        ("Does A imply B?", "Does B imply A?"),
        ("the dog chased the cat", "the cat chased the dog"),
        ("dog bites man", "man bites dog"),
        ("What if Google buys Quora?", "What if Quora buys Google?"),
        ("Does it rain if it snows?", "Does it snow if it rains?"),
        ("compare A with B where A is new", "compare A with B where B is new"),
        ("Who killed Brutus?", "Who did Brutus kill?"),
        ("Which team beat Chelsea?", "Which team did Chelsea beat?"),
        ("Who is taller than Bob?", "Who is Bob taller than?"),
        ("Of tea and milk, is the latter hot?", "Of milk and tea, is the latter hot?"),
    ],
)
def test_swapped_roles_are_found(one: str, other: str) -> None:
    assert swaps(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("flights from Paris to London", "flights to London from Paris"),
        ("flights from Paris to London", "Paris to London flights"),
        ("What is the capital of France?", "The capital of France is what?"),
        ("python list sort", "sort list python"),
        ("In Paris, what is the weather?", "What is the weather in Paris?"),
        ("Is it hot in Paris on Monday?", "On Monday, is it hot in Paris?"),
        ("What is the difference between TCP and UDP?", "What do UDP and TCP differ in?"),
        ("Which is better, tea or coffee?", "Which is better, coffee or tea?"),
        ("SAAS, PAAS and IAAS explained", "explained: IAAS, PAAS and SAAS"),
        ("Did Google acquire YouTube?", "Was YouTube acquired by Google?"),
        ("some of India's best kept secrets", "some of the best kept secrets of India"),
        ("the best diet for muscle building", "the best diet for building muscle"),
        ("How far is the moon from the earth?", "How far is the earth from the moon?"),
        ("How do I increase my site traffic?", "How to increase the traffic to my site?"),
        ("a list of U.S. family offices", "a list of family offices in the U.S."),
        ("Which movies did Disney release?", "Which movies has Disney released?"),
        ("What effects do humans have on it?", "What are some human effects on it?"),
        ("What happens if Rome attacks Athens?", "If Rome attacks Athens, what happens?"),
        ("", "the dog"),
    ],
)
def test_benign_orders_are_left_alone(one: str, other: str) -> None:
    assert not swaps(one, other)


def test_texts_of_several_sentences_are_compared_by_their_prepositions_only() -> None:
    many = " ".join(f"word{number}" for number in range(50))
    assert not swaps(f"the dog chased the cat {many}", f"the cat chased the dog {many}")
