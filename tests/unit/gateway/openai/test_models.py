from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from services.errors import Unavailable
from services.gateway.llm.client import LanguageModelClient
from services.gateway.openai.models import ModelRoutes
from tests.fakes.backends import FakeEmbedder

THEIRS = {"id": "org/gpt", "object": "model", "created": 7, "owned_by": "org"}


class Embedder(FakeEmbedder):
    is_down = False

    async def text_models(self) -> list[str]:
        if self.is_down:
            raise Unavailable("EMBEDDER_UNAVAILABLE", "It is down.")
        return ["minilm"]


async def get(
    path: str, theirs: int = 200, *, embedder_is_down: bool = False, url: str = "http://model/v1"
) -> tuple[int, Any]:
    def answer(request: httpx.Request) -> httpx.Response:
        if theirs == 0:
            raise httpx.ConnectError("refused")
        return httpx.Response(theirs, json={"data": [THEIRS]})

    client = LanguageModelClient(url, "", "", transport=httpx.MockTransport(answer))
    embedder = Embedder()
    embedder.is_down = embedder_is_down
    app = Starlette(routes=ModelRoutes(client, embedder).routes())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        reply = await http.get(f"/v1/models{path}")
    return reply.status_code, reply.json()


def names(body: Any) -> list[str]:
    return [model["id"] for model in body["data"]]


async def test_the_models_of_both_services_are_listed() -> None:
    status, body = await get("")
    assert (status, body["object"], names(body)) == (200, "list", ["org/gpt", "minilm"])
    assert names((await get("", url=""))[1]) == ["minilm"]


@pytest.mark.parametrize("theirs", [0, 401, 500])
async def test_one_of_the_services_may_be_down(theirs: int) -> None:
    assert names((await get("", theirs))[1]) == ["minilm"]
    assert names((await get("", embedder_is_down=True))[1]) == ["org/gpt"]
    status, body = await get("", theirs, embedder_is_down=True)
    assert status >= 400
    assert body["error"]["message"]
    assert (await get("", url="", embedder_is_down=True))[0] == 503


async def test_a_model_is_found_by_its_id() -> None:
    assert await get("/org/gpt") == (200, THEIRS)
    status, body = await get("/minilm", 0)
    assert (status, body["owned_by"]) == (200, "memetwin")
    status, body = await get("/nothing")
    assert status == 404
    assert (body["error"]["code"], body["error"]["param"]) == ("model_not_found", "model")


async def test_a_model_of_a_service_that_is_down_is_not_missing() -> None:
    assert (await get("/org/gpt", 0))[0] == 503
