"""Tokens of a local identity provider over HTTP."""

import asyncio
import contextlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from services.errors import Failure, PermissionDenied, Unauthenticated
from services.gateway.app import server
from services.gateway.auth.caller import current_scope
from services.gateway.auth.keys import ApiKeys
from services.gateway.auth.oidc import LEEWAY, MIN_REFRESH_INTERVAL, Provider, TokenVerifier
from services.key_file import KeyFile
from services.settings import SettingError

NOW = time.time()  # tokens are compared with the real time
CHAT = "chat:write"


class IdentityProvider:
    """Publishes keys and signs tokens."""

    def __init__(self) -> None:
        self.issuer = ""
        self.private: dict[str, Any] = {}
        self.published: list[dict[str, Any]] = []
        self.requests = 0
        self.add("first")

    def add(self, kid: str) -> None:
        """Publish a new key."""
        key = rsa.generate_private_key(65537, 2048)
        public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        self.private[kid] = key
        self.published.append({**public, "kid": kid, "use": "sig", "alg": "RS256"})

    def token(self, kid: str = "first", algorithm: str = "RS256", **claims: Any) -> str:
        found = {"iss": self.issuer, "aud": "memetwin", "sub": "ann", "exp": NOW + 3600}
        found |= {"tenant": "acme", "rights": ["chat", "openid"], **claims}
        found = {name: value for name, value in found.items() if value is not None}
        return jwt.encode(found, self.private[kid], algorithm, headers={"kid": kid})

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._configuration),
                Route("/keys", self._keys),
            ]
        )
        async with server.serve(app, "127.0.0.1", 0) as http:
            self.issuer = f"http://127.0.0.1:{http.port}/"
            yield

    async def _configuration(self, request: Request) -> JSONResponse:
        return JSONResponse({"issuer": self.issuer, "jwks_uri": f"{self.issuer}keys"})

    async def _keys(self, request: Request) -> JSONResponse:
        self.requests += 1
        return JSONResponse({"keys": self.published})


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    one = IdentityProvider()
    async with one.serving():
        yield one


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def keys(provider: IdentityProvider, clock: Clock) -> AsyncIterator[ApiKeys]:
    async with verifying(Provider(provider.issuer, "memetwin"), clock) as one:
        yield one


@contextlib.asynccontextmanager
async def verifying(provider: Provider, clock: Clock) -> AsyncIterator[ApiKeys]:
    tokens = TokenVerifier(provider, clock=clock)
    try:
        yield ApiKeys.load("", tokens=tokens)
    finally:
        await tokens.close()


async def scope_of(keys: ApiKeys, token: str, right: str = CHAT) -> tuple[str, str, str]:
    """Return the scope of a call with a token."""

    async def call() -> tuple[str, str, str]:
        admission = keys.authenticate(right, f"Bearer {token}")
        assert admission is not None
        async with admission:
            return current_scope("", "", "")

    return await asyncio.create_task(call())


async def reason(keys: ApiKeys, token: str, right: str = CHAT) -> str:
    with pytest.raises(Failure) as caught:
        await scope_of(keys, token, right)
    return caught.value.reason


async def test_a_token_names_the_tenant_and_the_rights(
    keys: ApiKeys, provider: IdentityProvider
) -> None:
    token = provider.token()
    assert await scope_of(keys, token) == ("acme", "", "")
    assert await scope_of(keys, token, "chat:read") == ("acme", "", "")
    with pytest.raises(PermissionDenied):
        await scope_of(keys, token, "rag:read")
    assert provider.requests == 1


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "http://127.0.0.1/other"},
        {"aud": "another service"},
        {"exp": NOW - LEEWAY - 1},
        {"nbf": NOW + 3600},
        {"exp": None},
        {"aud": None},
        {"sub": None},
        {"tenant": None},
        {"tenant": ""},
        {"tenant": ["acme"]},
    ],
)
async def test_a_token_with_wrong_claims_is_refused(
    keys: ApiKeys, provider: IdentityProvider, claims: dict[str, Any]
) -> None:
    assert await reason(keys, provider.token(**claims)) == "INVALID_TOKEN"


async def test_clocks_may_differ_a_little(keys: ApiKeys, provider: IdentityProvider) -> None:
    now = time.time()
    assert await scope_of(keys, provider.token(exp=now - 1, nbf=now + 1))


def signed_with(public: bytes, claims: dict[str, Any]) -> str:
    """Return a token whose secret is a public key, which libraries refuse to make."""
    parts = ({"alg": "HS256", "kid": "first"}, claims)
    text = b".".join(base64url_encode(json.dumps(part).encode()) for part in parts)
    signature = hmac.digest(public, text, "sha256")
    return b".".join([text, base64url_encode(signature)]).decode()


async def test_a_token_that_anybody_could_make_is_refused(
    keys: ApiKeys, provider: IdentityProvider
) -> None:
    claims = {"iss": provider.issuer, "aud": "memetwin", "sub": "ann", "exp": NOW + 3600}
    claims |= {"tenant": "acme", "rights": ["admin"]}
    unsigned = jwt.encode(claims, "", "none", headers={"kid": "first"})
    public = provider.private["first"].public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    symmetric = signed_with(public, claims)
    secret = "a secret that the provider publishes"
    provider.published.append({"kty": "oct", "k": secret, "kid": "shared", "alg": "HS256"})
    published = jwt.encode(claims, secret, "HS256", headers={"kid": "shared"})
    other = IdentityProvider()
    other.issuer = provider.issuer
    forged = other.token()
    genuine = provider.token()
    changed = ".".join([*genuine.split(".")[:2], other.token().split(".")[2]])
    for token in (unsigned, symmetric, published, forged, changed, "a.b.c", ".."):
        assert await reason(keys, token) == "INVALID_TOKEN"
    assert await reason(keys, "no token") == "UNKNOWN_API_KEY"


async def test_a_new_key_is_read_when_a_token_names_it(
    keys: ApiKeys, provider: IdentityProvider, clock: Clock
) -> None:
    await scope_of(keys, provider.token())
    provider.add("second")
    assert await reason(keys, provider.token("second")) == "INVALID_TOKEN"  # too soon
    clock.now += MIN_REFRESH_INTERVAL
    tokens = [provider.token("second", sub=str(number)) for number in range(20)]
    await asyncio.gather(*(scope_of(keys, token) for token in tokens))
    assert provider.requests == 2
    clock.now += MIN_REFRESH_INTERVAL
    provider.private["unpublished"] = provider.private["first"]
    for _ in range(20):
        assert await reason(keys, provider.token("unpublished")) == "INVALID_TOKEN"
    assert provider.requests == 3


async def test_a_withdrawn_key_is_no_longer_valid_after_a_refresh(
    keys: ApiKeys, provider: IdentityProvider, clock: Clock
) -> None:
    token = provider.token()
    await scope_of(keys, token)
    provider.add("second")
    del provider.published[0]
    clock.now += MIN_REFRESH_INTERVAL
    await scope_of(keys, provider.token("second"))
    assert await reason(keys, token) == "INVALID_TOKEN"


async def test_elliptic_keys_and_tokens_without_a_key_id_are_accepted(
    keys: ApiKeys, provider: IdentityProvider
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    provider.published = [{**public, "alg": "ES256"}]
    claims = jwt.decode(provider.token(), options={"verify_signature": False})
    assert await scope_of(keys, jwt.encode(claims, key, "ES256"))


async def test_claims_may_be_nested_and_name_the_user(
    provider: IdentityProvider, clock: Clock
) -> None:
    options = {"tenant_claim": "https://example.org/tenant", "user_claim": "sub"}
    options["rights_claim"] = "resources.memetwin.roles"
    async with verifying(Provider(provider.issuer, "memetwin", **options), clock) as keys:
        claims: dict[str, Any] = {
            "https://example.org/tenant": "umbrella",
            "resources": {"memetwin": {"roles": "rag:read chat"}},
        }
        token = provider.token(tenant=None, rights=None, **claims)
        assert await scope_of(keys, token) == ("umbrella", "ann", "")
        assert await scope_of(keys, token, "rag:read")
        assert await reason(keys, token, "rag:write") == "RIGHT_MISSING"
        claims["resources"] = {"memetwin": {"roles": 7}}
        assert await reason(keys, provider.token(**claims)) == "RIGHT_MISSING"


async def test_the_url_of_the_keys_can_be_set(provider: IdentityProvider, clock: Clock) -> None:
    named = Provider("https://example.org", "memetwin", f"{provider.issuer}keys")
    async with verifying(named, clock) as keys:
        assert await scope_of(keys, provider.token(iss="https://example.org"))


async def test_a_provider_that_does_not_answer_makes_calls_fail_as_unavailable(
    clock: Clock, provider: IdentityProvider
) -> None:
    for url in ("http://127.0.0.1:1/", f"{provider.issuer}nothing"):
        async with verifying(Provider(url, "memetwin"), clock) as keys:
            token = provider.token(iss=url)
            assert await reason(keys, token) == "IDENTITY_PROVIDER_UNAVAILABLE"


async def test_a_call_ends_when_its_token_expires(
    keys: ApiKeys, provider: IdentityProvider
) -> None:
    begun = asyncio.Event()
    now = NOW
    expiring = ApiKeys(KeyFile(), tokens=keys._tokens, clock=lambda: now)

    async def call() -> None:
        admission = expiring.authenticate(CHAT, f"Bearer {provider.token()}")
        assert admission
        async with admission:
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await begun.wait()
    expiring.set_keys(KeyFile())
    assert not task.done()
    now = NOW + 3600 + LEEWAY
    expiring.set_keys(KeyFile())
    with pytest.raises(Unauthenticated):
        await task


@pytest.mark.parametrize(
    ("issuer", "audience"), [("http://example.org", "memetwin"), ("https://example.org", "")]
)
def test_an_unsafe_provider_stops_the_start(issuer: str, audience: str) -> None:
    with pytest.raises(SettingError):
        Provider(issuer, audience)
