from collections.abc import Mapping
from typing import Any

import pytest

from services.errors import Unavailable
from services.gateway.auth.caller import set_caller, uncharged
from services.gateway.llm.metering import metered
from services.key_file import Key

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "x" * 40}, {"content": ["?"]}, 7]}


def charges_of_this_call() -> list[Mapping[str, float]]:
    charged: list[Mapping[str, float]] = []
    set_caller(Key("0" * 64, "acme"), charged.append)
    return charged


def chunk(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


async def test_the_usage_that_the_server_reports_is_charged() -> None:
    charged = charges_of_this_call()
    async with metered(BODY) as meter:
        meter.add(chunk("Hello"))
        meter.add({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}})
    assert charged == [{"prompt_tokens": 9, "completion_tokens": 3}]


@pytest.mark.parametrize("error", [GeneratorExit(), Unavailable("GONE", "It is gone.")])
async def test_a_stream_that_is_cut_off_is_charged_by_an_estimate(error: BaseException) -> None:
    charged = charges_of_this_call()

    async def cut_off() -> None:
        async with metered(BODY) as meter:
            meter.add(chunk("x" * 12))
            raise error

    with pytest.raises(type(error)):
        await cut_off()
    assert charged == [{"prompt_tokens": 10, "completion_tokens": 3}]


async def test_a_refused_request_is_not_charged() -> None:
    charged = charges_of_this_call()
    with pytest.raises(Unavailable):
        async with metered(BODY):
            raise Unavailable("GONE", "It is gone.")
    assert not charged


async def test_a_usage_that_is_not_valid_is_estimated() -> None:
    charged = charges_of_this_call()
    async with metered({}) as meter:
        meter.add({"choices": [{"message": {"content": "x" * 8}}], "usage": ["many"]})
    assert charged == [{"prompt_tokens": 0, "completion_tokens": 2}]


async def test_shadow_requests_are_not_charged() -> None:
    charged = charges_of_this_call()
    with uncharged():
        async with metered(BODY):
            pass
    assert not charged
