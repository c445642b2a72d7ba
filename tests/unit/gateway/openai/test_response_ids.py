import pytest

from services.errors import NotFound, PermissionDenied
from services.gateway.cache.types import Scope
from services.gateway.openai.response_ids import BoundIds, ResponseIds

RESPONSE = {"id": "resp_1", "object": "response", "previous_response_id": "resp_0", "output": []}


async def ids(tenant: str = "acme", user: str = "") -> BoundIds:
    async def read_secret() -> bytes:
        return b"secret"

    return await ResponseIds(read_secret).of(Scope(tenant, user, "faq"))


async def test_only_the_tenant_and_the_user_find_their_response() -> None:
    bound = (await ids()).write("resp_1")
    assert (await ids()).read(bound) == "resp_1"
    for others in (await ids("umbrella"), await ids("acme", "ann"), await ids("", "acme")):
        for name in (bound, "resp_1", ""):
            with pytest.raises(NotFound):
                others.read(name)


async def test_without_tenants_the_ids_are_the_servers() -> None:
    plain = await ids("")
    assert plain.write_reply(RESPONSE) == RESPONSE
    body = {"previous_response_id": "resp_1", "conversation": "conv_1"}
    assert plain.read_request(body) == body
    assert plain.read("resp_1") == "resp_1"


async def test_replies_and_events_have_the_callers_ids() -> None:
    bound = await ids()
    expected = RESPONSE | {"id": bound.write("resp_1")}
    expected |= {"previous_response_id": bound.write("resp_0")}
    assert bound.write_reply(RESPONSE) == expected
    event = {"type": "response.created", "response": RESPONSE, "id": "other"}
    assert bound.write_reply(event) == event | {"response": expected}
    deleted = {"id": "resp_1", "object": "response.deleted", "deleted": True}
    assert bound.write_reply(deleted)["id"] == bound.write("resp_1")
    for other in ({"id": "msg_1", "object": "list"}, {"id": 5, "object": "response"}, {}):
        assert bound.write_reply(other) == other


async def test_a_request_has_the_servers_ids() -> None:
    bound = await ids()
    body = {"previous_response_id": bound.write("resp_1"), "input": "Hi?"}
    assert bound.read_request(body) == {"previous_response_id": "resp_1", "input": "Hi?"}
    assert bound.read_request({"input": ["Hi?"]}) == {"input": ["Hi?"]}


async def test_state_that_tenants_share_is_refused() -> None:
    bound = await ids()
    for body in (
        {"conversation": "conv_1"},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
    ):
        with pytest.raises(PermissionDenied) as caught:
            bound.read_request(body)
        assert caught.value.reason == "SHARED_STATE"
