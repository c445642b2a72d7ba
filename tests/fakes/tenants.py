"""Tenants whose tags a fixed secret determines, and a collection of documents."""

from services.gateway.rag.ingest.types import DocumentCollection
from services.gateway.tenants import Tenants

# The collection of the default tenant that most tests use.
C = DocumentCollection("c")


async def read_secret() -> bytes:
    return b"s" * 32


def fake_tenants() -> Tenants:
    return Tenants(read_secret)
