import json
import re
from typing import Any

import pytest

from services.gateway.rag import prompts
from services.gateway.rag.prompts import Prompt, TokenEstimator
from services.gateway.rag.types import Passage
from tests.injections import INJECTIONS, KEY

QUESTION = "What is a door?"
CONTROL = re.compile(r"[<>|\[\]\x85\u2028\u2029]")


def passage(text: str, number: int = 0, title: str = "Doors") -> Passage:
    return Passage(f"d{number}", f"d{number}#0", text, 0.5, 0.5, title, "v", 0, len(text))


def build(passages: list[Passage], budget: int = 100_000, **more: Any) -> Prompt:
    given: dict[str, Any] = {"history": [], "estimator": TokenEstimator()} | more
    return prompts.build(QUESTION, given["history"], passages, given["estimator"], budget)


def quoted(prompt: Prompt) -> list[dict[str, str]]:
    """Parse the passages of a prompt strictly; fail if it contains anything else."""
    [key] = re.findall(r"key ([0-9a-f]{16})\b", prompt.messages[0]["content"])
    lines = prompt.messages[-1]["content"].split("\n")
    count = len(prompt.passages)
    for number in range(count):
        begins, ends = lines[3 * number], lines[3 * number + 2]
        assert begins == f"{key} passage {number + 1} begins"
        assert ends == f"{key} passage {number + 1} ends"
    end = f"The question, to be answered from the passages above: {QUESTION}"
    assert lines[3 * count :] == ["", end]
    assert "".join(lines[1 : 3 * count : 3]).count(key) == 0
    return [json.loads(line) for line in lines[1 : 3 * count : 3]]


def test_there_are_forty_injections_of_different_kinds() -> None:
    assert len(set(INJECTIONS)) >= 40


@pytest.mark.parametrize("injection", INJECTIONS)
def test_a_passage_cannot_leave_its_quotation(
    injection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passages = [passage("A door opens."), passage(injection, 1, injection), passage("It shuts.", 2)]
    prompt = build(passages)
    assert [message["role"] for message in prompt.messages] == ["system", "user"]
    assert [one["text"] for one in quoted(prompt)] == [one.text for one in passages]
    assert quoted(prompt)[1]["title"] == injection
    data = prompt.messages[-1]["content"].split("\n")[1:9:3]
    assert not any(CONTROL.search(line) or len(line.splitlines()) > 1 for line in data)
    assert injection not in prompt.messages[0]["content"]


def test_keys_are_made_for_each_call() -> None:
    one, other = (build([passage(KEY)]).messages[0]["content"] for _ in range(2))
    assert one != other


def test_a_prompt_keeps_to_its_budget() -> None:
    history = [("user", "x" * 300), ("assistant", "y" * 300), ("user", "z" * 300)]
    passages = [passage("word " * 100, number) for number in range(8)]
    prompt = build(passages, 2500, history=history)
    assert prompt.size <= 2500
    assert 0 < len(prompt.passages) < 8
    assert prompt.passages == passages[: len(prompt.passages)]
    assert [one["content"][0] for one in prompt.messages[1:-1]] == ["y", "z"]


def test_the_best_passage_is_always_in_the_prompt() -> None:
    assert len(build([passage("word " * 1000)], 10).passages) == 1


def test_reported_token_counts_lower_the_estimate_but_never_below_them() -> None:
    estimator = TokenEstimator()
    assert estimator.estimate(1000) == 1000
    estimator.observe(1000, 250)
    assert 250 <= estimator.estimate(1000) < 400
    estimator.observe(1000, 500)
    assert estimator.estimate(1000) >= 500
    estimator.observe(1000, 100)
    assert estimator.estimate(1000) >= 500
    passages = [passage("word " * 100, number) for number in range(8)]
    learnt = build(passages, 2500, estimator=estimator)
    assert len(learnt.passages) > len(build(passages, 2500).passages)


@pytest.mark.parametrize(("budget", "quotes"), [(10**9, 1000), (5000, 30)])
def test_each_passage_is_quoted_once_and_only_as_many_as_fit(
    budget: int, quotes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    quoted: list[int] = []
    quote = prompts._quote

    def counted(key: str, number: int, one: Passage) -> str:
        quoted.append(number)
        return quote(key, number, one)

    monkeypatch.setattr(prompts, "_quote", counted)
    prompt = build([passage("word " * 20, number) for number in range(1000)], budget)
    assert len(quoted) <= quotes
    assert quoted == list(range(1, len(quoted) + 1))
    assert prompt.size <= budget


def test_the_best_passage_takes_the_place_of_the_history() -> None:
    history = [("user", "Hello.")]
    prompt = build([passage("word " * 1000)], 1000, history=history)
    assert [message["role"] for message in prompt.messages] == ["system", "user"]
    assert len(prompt.passages) == 1


def test_the_template_has_a_digest() -> None:
    assert prompts.template_digest() == prompts.template_digest()
    assert len(prompts.template_digest()) == 64
