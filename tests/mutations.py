"""Mutates recorded requests: bytes anywhere, and values of JSON bodies."""

import copy
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

# Bytes that parsers treat in a special way.
PIECES = [
    *(b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r\n", b"\n\n", b"\\", b'"', b"'"),
    *(rb"\ud800", rb"\u0000", b"NaN", b"-Infinity", b"1e999", b"9" * 400, b"-1", b"1.5", b"true"),
    *(
        b"null",
        b"[",
        b"{",
        b"]}",
        b"[" * 200,
        b'{"a":' * 100,
        b",",
        b":",
        b"%",
        b"%00",
        b"../",
        b"&",
    ),
    *(
        "²".encode(),
        "\u2028".encode(),
        "🦊".encode(),
        "e\u0301".encode(),
        b"<p>",
        b"--",
        b"\x1f\x8b",
    ),
    *(b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", b"\x0a\xff\xff\xff\xff\x07", b"\x7f" * 8),
]
ODD_HEADERS = [
    *(b"Content-Encoding: gzip", b"Content-Encoding: br", b"Content-Encoding: deflate"),
    *(b"Cache-Control: max-age=\xb2", b"Cache-Control: no-cache,,=,max-age", b"Accept: \xff"),
    *(b"Cache-Control: max-age=" + b"9" * 500, b"Cache-Control: no-cache, no-store"),
    *(b"Authorization: Bearer \xff\xfe", b"Authorization: Basic Og==", b"X-Memetwin-Tenant: \xe9"),
    *(b"X-Memetwin-User: " + b"u" * 5000, b"X-Memetwin-Truncate: \xb2", b"Content-Type: \xff/\xff"),
    *(b"Content-Type: multipart/form-data", b"Content-Type: multipart/form-data; boundary="),
    *(
        b"Content-Type: multipart/form-data; boundary=x; charset=utf-7",
        b"Accept: text/event-stream",
    ),
    *(
        b"Content-Type: application/json; charset=utf-16",
        b"Origin: null",
        b"Host: [::1",
        b"Host: \xff",
    ),
    *(
        b"Upgrade: websocket\r\nConnection: Upgrade",
        b"Expect: nothing",
        b"Sec-Fetch-Site: cross-site",
    ),
    *(b"X-Memetwin-Namespace: \t", b"Range: bytes=0-", b"Transfer-Encoding: x", b"Bad header"),
]
METHODS = [b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"HEAD", b"PATCH", b"BREW"]


@dataclass(frozen=True)
class HttpRequest:
    """A request over HTTP. Its ``Content-Length`` is always right."""

    method: bytes
    target: bytes
    body: bytes = b""
    headers: tuple[bytes, ...] = field(default=(b"Content-Type: application/json",))

    def encode(self) -> bytes:
        lines = [b"%b %b HTTP/1.1" % (self.method, self.target), *self.headers]
        names = [line.partition(b":")[0].lower() for line in self.headers]
        lines += [] if b"host" in names else [b"Host: 127.0.0.1"]
        lines += [b"Content-Length: %d" % len(self.body), b"", b""]
        return b"\r\n".join(lines) + self.body


def mutate_bytes(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return data after a few edits of bytes."""
    edited = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        start = rng.randint(0, len(edited))
        end = min(len(edited), start + rng.choice((0, 1, 1, 4, 64)))
        match rng.randrange(6):
            case 0:
                edited[start:end] = rng.randbytes(end - start)
            case 1:
                edited[start:end] = b""
            case 2:
                edited[start:end] = rng.choice(PIECES)
            case 3:
                edited[start:start] = edited[start:end] * rng.choice((1, 2, 20))
            case 4 if start < len(edited):
                edited[start] ^= 1 << rng.randrange(8)
            case _:
                other = rng.choice(others)
                first = rng.randint(0, len(other))
                edited[start:end] = other[first : first + rng.choice((1, 8, 64))]
    return bytes(edited)


def mutate_request(
    rng: random.Random, request: HttpRequest, bodies: Sequence[bytes]
) -> HttpRequest:
    """Return a request after an edit of its body, its target, its headers or its method."""
    kind = rng.randrange(10)
    if kind == 0:
        return replace(request, headers=(*request.headers[kind % 2 :], rng.choice(ODD_HEADERS)))
    if kind == 1:
        target = mutate_bytes(rng, request.target, [b"/v1/models?limit=\xc2\xb2&limit=5", b"//"])
        printable = bytes(one if 33 <= one < 127 else 37 for one in target)
        return replace(request, target=b"/" + printable.lstrip(b"/"))
    if kind == 2:
        return replace(request, method=rng.choice(METHODS))
    return replace(request, body=mutate_bytes(rng, request.body, bodies))


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**31, 2**40, 2**63, 2**64, 10**400])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "\x00", "\ud800", "a\udfff", "²", "NaN", "x" * 5000])
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def mutated_structures(bodies: Sequence[Any], count: int) -> list[bytes]:
    """Return JSON bodies in which hypothesis has replaced or added a value."""
    found: list[bytes] = []

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(range(len(bodies))), st.integers(0, 10**6), _VALUES)
    def collect(number: int, place: int, value: Any) -> None:
        body = copy.deepcopy(bodies[number])
        places = list(_places(body))
        holder, key = places[place % len(places)]
        holder[key] = value
        found.append(json.dumps({"number": number, "body": body}).encode())

    collect()
    return found


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield all containers with each of their keys, and a new key of each object."""
    if isinstance(value, dict):
        yield value, "further"
    keys = value if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])
