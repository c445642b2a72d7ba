"""The plain data of twins: new pictures, stored pictures and search results."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass, field, replace

from services.errors import InvalidArgument

MAX_ID_BYTES = 256
MAX_TITLE_CHARACTERS = 200
MAX_TAGS = 32


@dataclass(frozen=True)
class Picture:
    """A picture to add; an empty ``id`` is derived from the title.

    ``source`` names where the picture comes from, for example a folder.
    """

    title: str
    image: bytes
    id: str = ""
    tags: list[str] = field(default_factory=list)
    source: str = ""

    def validated(self) -> "Picture":
        """Return the picture with its id. Raises InvalidArgument if a field is out of range."""
        title = self.title.strip()
        if not title or len(title) > MAX_TITLE_CHARACTERS:
            raise InvalidArgument(
                "BAD_TITLE",
                f"The title must have 1 to {MAX_TITLE_CHARACTERS} characters.",
                field="title",
            )
        if len(self.tags) > MAX_TAGS or any(
            not tag or len(tag) > MAX_TITLE_CHARACTERS for tag in self.tags
        ):
            raise InvalidArgument(
                "BAD_TAGS",
                f"At most {MAX_TAGS} tags are allowed,"
                f" each of 1 to {MAX_TITLE_CHARACTERS} characters.",
                field="tags",
            )
        key = self.id or _slug(title)
        if len(key.encode()) > MAX_ID_BYTES:
            raise InvalidArgument(
                "BAD_ID", f"The id must have at most {MAX_ID_BYTES} bytes.", field="id"
            )
        if len(self.source.encode()) > MAX_ID_BYTES:
            raise InvalidArgument(
                "BAD_SOURCE",
                f"The source must have at most {MAX_ID_BYTES} bytes; shorten it.",
                field="source",
            )
        return replace(self, id=key, title=title)


@dataclass(frozen=True)
class Twin:
    """A stored picture; a search result also has its similarity and distance to the query.

    Attributes:
        digest: SHA-256 of the picture file in hexadecimal.
        model_digest: digest of the model that computed its vectors.
    """

    id: str
    title: str
    tags: list[str]
    media_type: str
    digest: str
    model_digest: str
    source: str = ""
    similarity: float = 0.0
    distance: float = 0.0


@dataclass(frozen=True)
class TwinResults:
    """Twins, nearest first, the model that embedded the query, and the seconds of each stage."""

    twins: list[Twin]
    model: str
    model_digest: str
    embed: float
    search: float


def _slug(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return slug or hashlib.sha256(title.encode()).hexdigest()[:16]
