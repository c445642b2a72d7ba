"""Finds out what a Redis server can do, and warns of settings and versions that lose data."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis import exceptions

from services.errors import FailedPrecondition
from services.search.engines.connection import Client, any_node
from services.search.engines.redis_errors import REDIS_TIMEOUT, redis_errors, unavailable

# First fixed patch release of each version in which VREM can free memory that a VSIM on a
# background thread still reads (release notes of August 2026). Versions between them are not fixed.
_FIXED_PATCHES = {(8, 2): 9, (8, 4): 6, (8, 6): 6, (8, 8): 2, (8, 10): 1}


@dataclass(frozen=True)
class Server:
    """The version and the capabilities of a Redis server."""

    version: str
    vector_sets: bool
    query_engine: bool
    hybrid: bool
    warnings: list[str] = field(default_factory=list)

    @property
    def supports_background_search(self) -> bool:
        """Return whether VSIM can safely run on a background thread of this version."""
        return _is_fixed(self.version)

    def require_vectors(self) -> None:
        """Raise FailedPrecondition if the server has neither vector sets nor the Query Engine."""
        if not self.vector_sets and not self.query_engine:
            self.require("vector_sets")

    def require(self, engine: str) -> None:
        """Raise FailedPrecondition if the server does not have an engine."""
        if engine == "vector_sets" and not self.vector_sets:
            raise FailedPrecondition(
                "NEEDS_VECTOR_SETS",
                f"Redis {self.version} has no vector sets; use Redis 8.0 or newer.",
                version=self.version,
            )
        if engine == "query_engine" and not self.query_engine:
            raise FailedPrecondition(
                "NEEDS_QUERY_ENGINE",
                f"Redis {self.version} runs without the Query Engine (FT.SEARCH); use Redis 8.0 or"
                " newer with its modules.",
                field="collection.engine",
                version=self.version,
            )


async def probe(redis: Client) -> Server:
    """Ask the server for its version, its commands and its persistence settings."""
    async with redis_errors():
        node = await any_node(redis)
        info: dict[str, Any] = await redis.info("server", **node)
        names = ("VSIM", "FT.SEARCH", "FT.HYBRID")
        # One word, because redis-py's parser of COMMAND INFO fails on unknown commands.
        replies = await redis.execute_command("COMMAND INFO", *names, **node)
    has = dict(zip(names, (reply is not None for reply in replies), strict=True))
    version = str(info["redis_version"])
    warnings = _version_warnings(version) + _durability_warnings(await _settings(redis))
    return Server(version, has["VSIM"], has["FT.SEARCH"], has["FT.HYBRID"], warnings)


async def _settings(redis: Client) -> Mapping[str | bytes, str | bytes]:
    """Return the persistence settings, or no settings if the server hides them."""
    try:
        async with asyncio.timeout(REDIS_TIMEOUT):
            names = ("appendonly", "appendfsync", "maxmemory-policy")
            return dict(await redis.config_get(*names, **await any_node(redis)))
    except exceptions.ResponseError:
        return {}
    except (exceptions.RedisError, OSError, TimeoutError) as error:
        raise unavailable() from error


def _version_warnings(version: str) -> list[str]:
    if _is_fixed(version):
        return []
    return [
        f"Redis {version} can read freed memory when VREM runs during a VSIM on a background thread"
        " (fixed in 8.2.9, 8.4.6, 8.6.6, 8.8.2 and 8.10.1); searches run with NOTHREAD."
    ]


def _durability_warnings(settings: Mapping[str | bytes, str | bytes]) -> list[str]:
    values = {_text(name): _text(value) for name, value in settings.items()}
    warnings = []
    if values.get("appendonly") == "no":
        warnings.append(
            "Redis writes no append-only file, so a crash loses data; set appendonly yes."
        )
    elif values.get("appendfsync", "always") != "always":
        warnings.append(
            "Redis answers before writes are on disk, so a crash of the machine loses the latest"
            " ones; set appendfsync always."
        )
    if values.get("maxmemory-policy", "noeviction") != "noeviction":
        warnings.append("Redis evicts keys when memory is short; set maxmemory-policy noeviction.")
    return warnings


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _is_fixed(version: str) -> bool:
    major, minor, patch = [int(number) for number in re.findall(r"\d+", version)[:3]]
    if (major, minor) > max(_FIXED_PATCHES):
        return True
    return (major, minor) in _FIXED_PATCHES and patch >= _FIXED_PATCHES[major, minor]
