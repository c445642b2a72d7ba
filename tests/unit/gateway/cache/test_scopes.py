from services.gateway.cache.scopes import Scopes
from services.gateway.cache.types import Context, Request, Scope
from services.gateway.shared_secret import SharedSecret
from tests.fakes.redis import FakeRedis


def scopes(redis: FakeRedis) -> Scopes:
    return Scopes(SharedSecret(redis, "p:"))  # type: ignore[arg-type]


async def test_every_part_of_a_scope_makes_another_partition() -> None:
    one = scopes(FakeRedis())
    parts = [
        Scope(),
        Scope("a"),
        Scope("", "a"),
        Scope("", "", "a"),
        Scope("a", "b"),
        Scope("ab"),
        Scope("a", "", "b"),
    ]
    partitions = {await one.partition(scope) for scope in parts}
    partitions.add(await one.tenant_partition("a"))
    assert len(partitions) == len(parts) + 1


async def test_an_entry_id_depends_on_scope_context_and_prompt() -> None:
    one = scopes(FakeRedis())
    base = Request(Scope("t"), Context(model="m"), "prompt")
    others = [
        Request(Scope("u"), base.context, base.prompt),
        Request(base.scope, Context(model="n"), base.prompt),
        Request(base.scope, base.context, "Prompt"),
    ]
    ids = {await one.entry_id(request) for request in (base, *others)}
    assert len(ids) == 4
    assert await one.entry_id(Request(Scope("t"), Context(model="m"), "prompt")) in ids
