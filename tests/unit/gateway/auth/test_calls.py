import asyncio

import pytest

from services.errors import Unauthenticated
from services.gateway.auth.caller import current_key_name
from services.gateway.auth.calls import RunningCall
from services.key_file import Key

KEY = Key("0123abcd" * 8, "acme")


async def test_a_call_runs_as_its_caller_and_is_known_while_it_runs() -> None:
    running: set[RunningCall] = set()
    async with (call := RunningCall(KEY, running)):
        assert current_key_name() == KEY.id
        assert running == {call}
    assert not running


async def test_a_call_that_is_ended_fails_as_unauthenticated() -> None:
    running: set[RunningCall] = set()
    call = RunningCall(KEY, running)

    async def run() -> None:
        async with asyncio.timeout(60), call:
            asyncio.get_running_loop().call_soon(call.end)
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    with pytest.raises(Unauthenticated) as caught:
        await task
    assert caught.value.reason == "API_KEY_REVOKED"
    assert not running
    assert task.cancelling() == 0


async def test_a_call_that_its_client_cancels_stays_cancelled() -> None:
    call = RunningCall(KEY, set())

    async def run() -> None:
        async with call:
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_ending_a_call_that_has_not_begun_does_nothing() -> None:
    RunningCall(KEY, set()).end()
