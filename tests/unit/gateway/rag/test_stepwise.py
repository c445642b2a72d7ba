import asyncio

from services.gateway.rag.stepwise import stepwise, take


async def test_other_tasks_run_between_steps() -> None:
    seen: list[int | str] = []

    async def other() -> None:
        for _ in range(2):
            seen.append("other")
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    async for item in stepwise(range(5), 2):
        seen.append(item)
    await task
    assert seen == [0, 1, "other", 2, 3, "other", 4]


async def test_as_many_are_taken_as_there_are() -> None:
    assert await take(stepwise("abc", 1), 2) == ["a", "b"]
    assert await take(stepwise("abc", 1), 9) == ["a", "b", "c"]
