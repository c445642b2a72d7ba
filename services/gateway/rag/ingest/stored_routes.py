"""Lists, returns and deletes stored documents over HTTP."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.errors import InvalidArgument
from services.gateway.http.numbers import whole_number
from services.gateway.http.responses import message_response
from services.gateway.rag.ingest import messages
from services.gateway.rag.ingest.removal import CollectionRemoval
from services.gateway.rag.ingest.service import IngestService


class StoredDocumentRoutes:
    """``GET`` and ``DELETE`` of ``/v1/documents``."""

    def __init__(self, ingest: IngestService, removal: CollectionRemoval) -> None:
        self._ingest = ingest
        self._removal = removal

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/documents", self.list, methods=["GET"]),
            Route("/v1/documents", self.delete_all, methods=["DELETE"]),
            Route("/v1/documents/{id:path}", self.get, methods=["GET"]),
            Route("/v1/documents/{id:path}", self.delete, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """Return a page of the documents of a collection, without their texts."""
        query = request.query_params
        page, token = await self._ingest.page(
            _collection(request), whole_number(query, "page_size"), query.get("page_token", "")
        )
        return await message_response(messages.write_page(page, token))

    async def get(self, request: Request) -> Response:
        """Return a document with its text."""
        document = await self._ingest.get(_collection(request), request.path_params["id"])
        return await message_response(messages.write_stored(document))

    async def delete(self, request: Request) -> Response:
        """Delete a document; return the number of its chunks."""
        chunks = await self._ingest.delete(_collection(request), request.path_params["id"])
        return JSONResponse({"chunks": chunks})

    async def delete_all(self, request: Request) -> Response:
        """Delete all documents of a collection; return their number."""
        return JSONResponse({"documents": await self._removal.delete(_collection(request))})


def _collection(request: Request) -> str:
    name = request.query_params.get("collection", "")
    if not name:
        raise InvalidArgument(
            "BAD_COLLECTION_NAME",
            "Name the collection in the query: ?collection=NAME.",
            field="collection",
        )
    return name
