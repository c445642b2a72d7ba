"""What a tenant's data is called, and the names of data that does not exist."""

import random
import re
from dataclasses import dataclass, field, fields
from typing import Any

# In every name of the attacked tenant's data. An attacker may know it.
MARKER = "quartz7a1"
# The same names with this word do not exist.
GHOST = "quartz7b2"
# In everything that the attacked tenant stores. No attack sends it.
SECRET = "zinnia4c8d0f"


@dataclass(frozen=True)
class Names:
    """The names, ids and inputs of a tenant's data.

    Attributes:
        tenant: the tenant. An attack sends it where ``claims_tenant`` is true.
        tokens: the second page's token of each rpc that lists.
        callers_picture: a picture that the caller adds.
    """

    tenant: str
    user: str = f"{MARKER}-user"
    namespace: str = f"{MARKER}-space"
    collection: str = f"{MARKER}-handbook"
    search_collection: str = f"{MARKER}-vectors"
    alias: str = f"{MARKER}-alias"
    document: str = f"{MARKER}-guide.md"
    chunk: str = f"{MARKER}-row"
    prompt: str = f"Where does the {MARKER} expedition keep its reserve of fuel?"
    cite: str = f"documents/{MARKER}-guide.md"
    request_id: str = f"{MARKER}-request"
    twin: str = f"{MARKER}-cat"
    picture: bytes = b""
    callers_picture: bytes = b""
    vector: bytes = b""
    digest: str = ""
    model: str = ""
    entry: str = ""
    response: str = ""
    curated: str = ""
    fingerprint: str = ""
    tokens: dict[str, str] = field(default_factory=dict)
    claims_tenant: bool = False

    def ghost(self, picture: bytes, vector: bytes) -> "Names":
        """Return names of data that does not exist, of the same shapes."""
        rng = random.Random(7)
        values: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        for name, value in values.items():
            if isinstance(value, str) and name not in ("digest", "model", "fingerprint"):
                values[name] = _ghost(value, rng)
        tokens = {name: _ghost_token(token, rng) for name, token in self.tokens.items()}
        return Names(**values | {"picture": picture, "vector": vector, "tokens": tokens})


def _ghost_token(token: str, rng: random.Random) -> str:
    """Return a token for the same position among the caller's own items."""
    start = 0 if MARKER in token else len(token) // 2
    return token[:start] + _ghost(token[start:], rng)


def _ghost(value: str, rng: random.Random) -> str:
    return re.sub(
        r"[0-9a-f]{16,}",
        lambda match: "".join(rng.choices("0123456789abcdef", k=len(match[0]))),
        value.replace(MARKER, GHOST),
    )
