"""Reads the front matter of Markdown: YAML between lines of ``---``, or TOML between ``+++``."""

import datetime
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:  # the parsers' processes do not load it
    from services.gateway.backends.types import Value

MAX_CHARACTERS = 2**16
_FENCED = re.compile(
    r"(?P<fence>---|\+\+\+)[ \t]*\n(?P<inner>(?:.*?\n)??)"
    r"(?P<close>(?P=fence)|\.\.\.)[ \t]*(?:\n|\Z)",
    re.S,
)
_KEY = re.compile(r"[A-Za-z_][\w-]*", re.A)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_ERRORS = (yaml.YAMLError, tomllib.TOMLDecodeError, ValueError, RecursionError)


@dataclass(frozen=True)
class FrontMatter:
    """What the beginning of a text is.

    Attributes:
        inner: the place between the fences; empty if there are none.
        end: where the text after the closing fence begins.
        is_text: whether the text between the fences must be read as text. That is the case if it
            is prose, and if title and fields do not hold all of it.
        is_prose: whether it is no metadata at all.
    """

    inner: tuple[int, int] = (0, 0)
    end: int = 0
    is_text: bool = False
    is_prose: bool = False
    title: str = ""
    fields: "dict[str, Value]" = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read(text: str) -> FrontMatter:
    """Return the front matter of a text."""
    match = _FENCED.match(text, 0, MAX_CHARACTERS)
    if not match or (match["fence"] == "+++" and match["close"] == "..."):
        return FrontMatter()
    inner, is_yaml, warnings = match.span("inner"), match["fence"] == "---", []
    try:
        metadata: Any = yaml.safe_load(match["inner"]) if is_yaml else tomllib.loads(match["inner"])
    except _ERRORS:
        metadata = None
        kind = "YAML" if is_yaml else "TOML"
        warnings = [f"The front matter is not valid {kind} and was read as text."]
    if not _is_metadata(metadata):
        return FrontMatter(inner, match.end(), is_text=True, is_prose=True, warnings=warnings)
    title = metadata.pop("title", "")
    if not isinstance(title, str):
        metadata["title"], title = title, ""
    fields, rejected = _fields(metadata)
    is_text = any(key[0].isupper() or (key not in fields and metadata[key]) for key in metadata)
    return FrontMatter(inner, match.end(), is_text, title=title, fields=fields, warnings=rejected)


def _is_metadata(loaded: Any) -> bool:
    """Return whether it is a mapping whose keys are names. Prose may have a colon, too."""
    return (
        isinstance(loaded, dict)
        and bool(loaded)
        and all(isinstance(key, str) and _KEY.fullmatch(key) for key in loaded)
    )


def _fields(metadata: dict[str, Any]) -> "tuple[dict[str, Value], list[str]]":
    """Return the metadata that fits into fields, and a warning for each other entry."""
    fields, warnings = {}, []
    for name, raw in metadata.items():
        value = _value(raw) if _NAME.fullmatch(name) else None
        if value is None:
            warnings.append(
                f"The front matter's {name[:64]!r} was ignored: no field fits its name or value."
            )
        else:
            fields[name] = value
    return fields, warnings


def _value(value: Any) -> "Value | None":
    """Return a value as a field value, or None. Dates become Unix seconds."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and abs(value) < 2**1000:
        return float(value)
    if isinstance(value, str):
        return value or None
    if isinstance(value, datetime.datetime):
        return (value if value.tzinfo else value.replace(tzinfo=datetime.UTC)).timestamp()
    if isinstance(value, datetime.date):
        return datetime.datetime(*value.timetuple()[:3], tzinfo=datetime.UTC).timestamp()
    return _compound(value)


def _compound(value: Any) -> "Value | None":
    """Return a list of strings as tags, and a mapping of ``lat`` and ``lon`` as a point."""
    if isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
        return list(value)
    if not isinstance(value, dict) or value.keys() != {"lat", "lon"}:
        return None
    if not all(isinstance(one, int | float) for one in value.values()):
        return None
    return {name: float(one) for name, one in value.items()}
