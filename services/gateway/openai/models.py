"""``/v1/models`` of OpenAI's API: the models of the language model server and the embedder."""

import asyncio
import logging

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.errors import Failure, NotFound
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.llm.client import LanguageModelClient
from services.gateway.llm.errors import unavailable
from services.gateway.llm.types import Json
from services.gateway.openai.routing import openai_route

log = logging.getLogger(__name__)
LIST_TIMEOUT = 5.0


class ModelRoutes:
    """The routes of models."""

    def __init__(self, language_model: LanguageModelClient, embedder: EmbedderClient) -> None:
        self._language_model = language_model
        self._embedder = embedder

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            openai_route("/v1/models", self.list_models, "GET"),
            openai_route("/v1/models/{id:path}", self.get_model, "GET"),
        ]

    async def list_models(self, request: Request) -> Response:
        """List the language model server's models, then the embedder's.

        One of the services may be down, but not both.
        """
        models, failures = await self._models()
        if failures and not models:
            raise failures[0]
        return JSONResponse({"object": "list", "data": models})

    async def get_model(self, request: Request) -> Response:
        """Return a model by its id.

        Raises:
            NotFound: there is no such model.
            Failure: no service that answers has the model, and the other one is down.
        """
        wanted = request.path_params["id"]
        models, failures = await self._models()
        for model in models:
            if model.get("id") == wanted:
                return JSONResponse(model)
        if failures:
            raise failures[0]
        raise NotFound(
            "MODEL_NOT_FOUND",
            f"There is no model {wanted[:100]!r}. GET /v1/models lists the models.",
            field="model",
        )

    async def _models(self) -> tuple[list[Json], list[Failure]]:
        """Return the models of both services, and the failures of those that are down."""
        outcomes = await asyncio.gather(self._theirs(), self._ours(), return_exceptions=True)
        models: list[Json] = []
        failures: list[Failure] = []
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                log.warning("cannot list the models of a service", exc_info=outcome)
                failures.append(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                models += outcome
        return models, failures

    async def _theirs(self) -> list[Json]:
        try:
            async with asyncio.timeout(LIST_TIMEOUT):
                return await self._language_model.models()
        except TimeoutError:
            raise unavailable() from None

    async def _ours(self) -> list[Json]:
        names = await self._embedder.text_models()
        return [_model(name) for name in names]


def _model(name: str) -> Json:
    return {"id": name, "object": "model", "created": 0, "owned_by": "memetwin"}
