"""``GET /v1/models`` of OpenAI's API: the language model server's models and the embedder's."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.gateway.backends.embedder import EmbedderClient
from services.gateway.llm.client import LanguageModelClient
from services.gateway.openai.routing import openai_route


class ModelRoutes:
    """The route of the list of models."""

    def __init__(self, language_model: LanguageModelClient, embedder: EmbedderClient) -> None:
        self._language_model = language_model
        self._embedder = embedder

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [openai_route("/v1/models", self.list_models, "GET")]

    async def list_models(self, request: Request) -> Response:
        """List the language model server's models, then the embedder's."""
        models = await self._language_model.models()
        for name in await self._embedder.text_models():
            models.append({"id": name, "object": "model", "created": 0, "owned_by": "memetwin"})
        return JSONResponse({"object": "list", "data": models})
