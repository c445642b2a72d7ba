"""Passages and hits for tests of ranking, citations and quotations."""

import json
from typing import Any

from services.gateway.backends.types import Hit
from services.gateway.rag.types import Passage


def passage(text: str, document: str = "d", **more: Any) -> Passage:
    """A passage at the beginning of its document."""
    given: dict[str, Any] = {
        "chunk": f"{document}#0",
        "score": 0.5,
        "similarity": 0.5,
        "title": "",
        "version": "v",
        "start": 0,
        "end": len(text),
    }
    return Passage(document=document, text=text, **given | more)


def hit(text: str, document: str = "d", **more: Any) -> Hit:
    """A hit in a document with one chunk."""
    place = {
        "document": document,
        "title": "",
        "version": "v",
        "start": 0,
        "end": len(text),
        "lead": 0,
        "number": 0,
        "section": "",
        "page": 0,
        "gap": None,
    }
    given: dict[str, Any] = {"similarity": 0.5, "distance": 0.5, "fields": {}} | more
    given.setdefault("score", given["similarity"])
    return Hit(id=f"{document}#0", text=text, payload=json.dumps(place).encode(), **given)
