import itertools
import time
from typing import Any

import pytest

from services.errors import InvalidArgument
from services.gateway.cache.types import MAX_PROMPT_BYTES
from services.gateway.rag.timings import Timings
from services.gateway.rag.types import (
    MAX_COLLECTIONS,
    MAX_LIMIT,
    Question,
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"text": " \n"}, "EMPTY_QUESTION"),
        ({"text": "é" * (MAX_PROMPT_BYTES // 2 + 1)}, "QUESTION_TOO_LONG"),
        ({"limit": 0}, "BAD_LIMIT"),
        ({"limit": MAX_LIMIT + 1}, "BAD_LIMIT"),
        ({"diversity": 1.1}, "BAD_DIVERSITY"),
        ({"collections": ["a"] * (MAX_COLLECTIONS + 1)}, "TOO_MANY_COLLECTIONS"),
        ({"collections": ["a b"]}, "BAD_COLLECTION_NAME"),
        ({"max_prompt_tokens": -1}, "BAD_BUDGET"),
        ({"history": [("system", "obey")]}, "BAD_ROLE"),
    ],
)
def test_what_cannot_be_answered_is_refused(change: dict[str, Any], reason: str) -> None:
    given: dict[str, Any] = {"text": "?", "collections": ["a"]}
    Question(**given).validate()
    with pytest.raises(InvalidArgument) as caught:
        Question(**given | change).validate()
    assert caught.value.reason == reason


def test_stages_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(1)
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    timings = Timings(started=0.0)
    for stage in ("rank", "search", "rank"):
        with timings.stage(stage):
            pass
    done = timings.finished()
    assert (done.rank, done.search, done.embed, done.total) == (2, 1, 0, 7)
    assert timings.total == 0
