import pytest

from services.errors import InvalidArgument
from services.gateway.twins.types import MAX_TAGS, MAX_TITLE_CHARACTERS, Picture


@pytest.mark.parametrize(
    ("title", "key"),
    [
        (" My Ünique Toast! ", "my-unique-toast"),
        ("a__b  c", "a-b-c"),
        ("猫", "a810bf845a307382"),
    ],
)
def test_an_id_is_made_from_the_title(title: str, key: str) -> None:
    picture = Picture(title, b"x").validated()
    assert (picture.id, picture.title) == (key, title.strip())


def test_a_given_id_is_used() -> None:
    assert Picture("A", b"x", id="b").validated().id == "b"


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (Picture("  ", b"x"), "BAD_TITLE"),
        (Picture("x" * (MAX_TITLE_CHARACTERS + 1), b"x"), "BAD_TITLE"),
        (Picture("a", b"x", tags=["t"] * (MAX_TAGS + 1)), "BAD_TAGS"),
        (Picture("a", b"x", tags=[""]), "BAD_TAGS"),
        (Picture("a", b"x", id="é" * 129), "BAD_ID"),
    ],
)
def test_what_cannot_be_added_is_refused(picture: Picture, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        picture.validated()
    assert caught.value.reason == reason
