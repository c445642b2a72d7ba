"""Parses documents in the process of the test."""

from collections.abc import Hashable

from services.errors import InvalidArgument
from services.gateway.rag.ingest.parser_pool import ParserPool
from services.gateway.rag.ingest.parsers import files
from services.gateway.rag.ingest.parsers.extract import Extract, ParseError


class FakeParserPool(ParserPool):
    """Parses at once; ``error`` is raised instead if it is set."""

    error: Exception | None = None

    async def parse(self, caller: Hashable, media_type: str, content: bytes) -> Extract:
        if self.error:
            raise self.error
        try:
            return files.parse(media_type, content)
        except ParseError as error:
            raise InvalidArgument(error.reason, error.message, field="content") from error
