from dataclasses import dataclass

import pytest

from services.embedder import requests
from services.embedder.requests import AudioFile, EmbedRequest, RerankRequest
from services.errors import InvalidArgument
from tests.fakes.models import model_info


@dataclass
class Item:
    truncated: bool


def reason(refused: pytest.ExceptionInfo[InvalidArgument]) -> tuple[str, str]:
    return refused.value.reason, refused.value.field


@pytest.mark.parametrize(
    ("value", "modality"), [("a", "text"), (b"a", "image"), (AudioFile(b"a"), "audio")]
)
def test_the_type_of_an_input_is_its_modality(value: str | bytes, modality: str) -> None:
    assert requests.modality(value) == modality


def test_valid_requests_are_accepted() -> None:
    inputs: list[str | bytes] = [" ", b"", AudioFile(b"")]
    requests.validate(EmbedRequest([*inputs * 682, "é" * (2 * 2**20)]))
    requests.validate_rerank(RerankRequest("a", ["b"] * 2048))


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([], ("EMPTY_BATCH", "inputs")),
        (["a"] * 2049, ("TOO_MANY_INPUTS", "inputs")),
        (["a", b"", ""], ("EMPTY_TEXT", "inputs[2].text")),
        (["é" * (2 * 2**20) + "a"], ("TEXT_TOO_LARGE", "inputs[0].text")),
    ],
)
def test_inputs_that_no_model_takes_are_refused(
    inputs: list[str | bytes], expected: tuple[str, str]
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        requests.validate(EmbedRequest(inputs))
    assert reason(refused) == expected


@pytest.mark.parametrize(
    ("query", "texts", "expected"),
    [
        ("", ["a"], ("EMPTY_TEXT", "query")),
        ("a", [], ("EMPTY_BATCH", "texts")),
        ("a", ["a"] * 2049, ("TOO_MANY_INPUTS", "texts")),
        ("a", ["a", " "], ("EMPTY_TEXT", "texts[1]")),
    ],
)
def test_texts_that_no_model_ranks_are_refused(
    query: str, texts: list[str], expected: tuple[str, str]
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        requests.validate_rerank(RerankRequest(query, texts))
    assert reason(refused) == expected


def test_the_model_must_take_every_modality() -> None:
    both, text = model_info("text", "image"), model_info("text")
    requests.validate_modalities(EmbedRequest(["a", b"a"]), both)
    with pytest.raises(InvalidArgument) as refused:
        requests.validate_modalities(EmbedRequest(["a", b"a"]), text)
    assert reason(refused) == ("MIXED_MODALITIES", "inputs[1]")
    with pytest.raises(
        InvalidArgument, match="does not take image input; it takes text"
    ) as refused:
        requests.validate_modalities(EmbedRequest([b"a", b"b"]), text)
    assert reason(refused) == ("WRONG_MODALITY", "inputs[0]")


def test_a_truncated_input_is_refused_by_its_index() -> None:
    requests.reject_truncated([(0, Item(False)), (5, Item(False))], model_info("text"))
    with pytest.raises(InvalidArgument, match="more than the 9 tokens that fake reads") as refused:
        requests.reject_truncated([(0, Item(False)), (5, Item(True))], model_info("text"))
    assert reason(refused) == ("TEXT_TOO_LONG", "inputs[5].text")
    assert refused.value.metadata == {"max_tokens": "9"}
