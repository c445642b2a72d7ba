"""Verifies the tokens of an identity provider: JWTs of OpenID Connect.

See https://openid.net/specs/openid-connect-discovery-1_0.html and RFC 8725. The provider's keys are
read in the background, again every few minutes, and when a token names a key that is not known.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt

from services.errors import Unauthenticated, Unavailable
from services.gateway.auth.caller import TokenKey
from services.key_file import ADMIN, ALL_BUT_ADMIN, ANY_USER, FEATURES, Key, expand_rights, sha256
from services.settings import SettingError

# Only signatures with a private key: with the others, whoever verifies tokens could make them.
ALGORITHMS = [
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
]
LEEWAY = 30  # seconds by which clocks may differ
REFRESH_PERIOD = 300.0  # seconds
MIN_REFRESH_INTERVAL = 10.0  # seconds, so that tokens with unknown keys cause few requests
_MAX_BYTES = 2**20
_MAX_REMEMBERED = 10_000
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_KNOWN_RIGHTS = {*FEATURES, *ALL_BUT_ADMIN, ADMIN}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Provider:
    """An identity provider, and the claims of its tokens.

    Attributes:
        issuer: its URL, as in the tokens' ``iss``.
        audience: the ``aud`` of the tokens for this gateway.
        jwks_url: the URL of its keys; empty to discover it.
        tenant_claim: the claim that names the tenant. A dot leads into an object.
        rights_claim: the claim with the rights, a list or a text with spaces.
        user_claim: the claim that names the only user of the caller's scopes; empty for any user.
    """

    issuer: str
    audience: str
    jwks_url: str = ""
    tenant_claim: str = "tenant"
    rights_claim: str = "rights"
    user_claim: str = ""

    def __post_init__(self) -> None:
        if not self.audience:
            raise SettingError("MEMETWIN_OIDC_ISSUER needs MEMETWIN_OIDC_AUDIENCE.")
        for url in filter(None, (self.issuer, self.jwks_url)):
            parts = urlsplit(url)
            if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
                raise SettingError(f"The identity provider's URL {url!r} must begin with https://.")


class TokenVerifier:
    """Verifies tokens with the keys of a provider, and remembers those that it has verified."""

    def __init__(
        self,
        provider: Provider,
        client: httpx.AsyncClient | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._provider, self._clock = provider, clock
        self._client = client or httpx.AsyncClient(timeout=5.0)
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._verified: OrderedDict[str, Key] = OrderedDict()
        self._refreshed_at = 0.0
        self._refresh: asyncio.Task[None] | None = None

    def verify(self, token: str) -> Key | None:
        """Return the caller of a token, or None if ``refresh`` may find the key of its signature.

        Raises:
            Unauthenticated: the token is not valid.
        """
        digest = sha256(token)
        known = self._verified.get(digest)
        if known and self._clock() < known.not_after:
            return known
        try:
            header = jwt.get_unverified_header(token)
            signing_key = self._keys.get(header.get("kid"))
            if header.get("alg") not in ALGORITHMS:
                raise _invalid("Its algorithm is not accepted.")
            if signing_key is None:
                if self._may_refresh():
                    return None
                raise _invalid("The identity provider does not publish the key that signed it.")
            claims = self._claims(token, signing_key)
        except jwt.PyJWTError as error:
            raise _invalid(f"{error}.") from error
        caller = self._caller(claims)
        self._verified[digest] = caller
        if len(self._verified) > _MAX_REMEMBERED:
            self._verified.popitem(last=False)
        return caller

    async def refresh(self) -> None:
        """Read the provider's keys; callers at the same time share one request.

        Raises:
            Unavailable: the provider does not answer, and none of its keys is known.
        """
        if self._refresh is None or self._refresh.done():
            self._refreshed_at = self._clock()
            self._refresh = asyncio.create_task(self._read_keys())
        await asyncio.shield(self._refresh)
        if not self._keys:
            raise Unavailable(
                "IDENTITY_PROVIDER_UNAVAILABLE",
                "The keys of the identity provider cannot be read. Try again.",
                retry_after=MIN_REFRESH_INTERVAL,
            )

    async def watch(self) -> None:
        """Read the provider's keys now and every few minutes."""
        while True:
            try:
                await self.refresh()
            except Unavailable:
                await asyncio.sleep(MIN_REFRESH_INTERVAL)
            else:
                await asyncio.sleep(REFRESH_PERIOD)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _may_refresh(self) -> bool:
        is_running = self._refresh is not None and not self._refresh.done()
        return is_running or self._clock() >= self._refreshed_at + MIN_REFRESH_INTERVAL

    def _claims(self, token: str, signing_key: jwt.PyJWK) -> dict[str, Any]:
        return dict(
            jwt.decode(
                token,
                signing_key,
                algorithms=ALGORITHMS,
                audience=self._provider.audience,
                issuer=self._provider.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        )

    def _caller(self, claims: Mapping[str, Any]) -> Key:
        provider = self._provider
        tenant = _claim(claims, provider.tenant_claim)
        if not isinstance(tenant, str) or not tenant:
            raise _invalid(f"It names no tenant in the claim {provider.tenant_claim!r}.")
        user = ANY_USER
        if provider.user_claim:
            user = _claim(claims, provider.user_claim)
            if not isinstance(user, str) or not user or user == ANY_USER:
                raise _invalid(f"It names no user in the claim {provider.user_claim!r}.")
        rights = _claim(claims, provider.rights_claim) or []
        names = rights.split() if isinstance(rights, str) else rights
        known = [one for one in _KNOWN_RIGHTS if isinstance(names, list) and one in names]
        return TokenKey(
            sha256(f"{claims['iss']} {claims['sub']}"),
            tenant,
            rights=expand_rights(known),
            user=user,
            not_after=float(claims["exp"]) + LEEWAY,
        )

    async def _read_keys(self) -> None:
        try:
            url = self._provider.jwks_url or await self._discover()
            keys = [
                one
                for one in jwt.PyJWKSet.from_dict(await self._get(url)).keys
                if one.key_type != "oct" and one.public_key_use in (None, "sig")
            ]
        except (httpx.HTTPError, jwt.PyJWTError, LookupError, ValueError, TypeError) as error:
            log.error("cannot read the identity provider's keys", extra={"error": repr(error)})
            return
        self._keys = {one.key_id: one for one in keys}
        if len(keys) == 1:  # a token may then omit the key's id
            self._keys[None] = keys[0]
        self._verified.clear()  # because a key may have been withdrawn

    async def _discover(self) -> str:
        issuer = self._provider.issuer
        found = await self._get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise ValueError(f"the provider names another issuer: {found.get('issuer')!r}")
        return str(found["jwks_uri"])

    async def _get(self, url: str) -> dict[str, Any]:
        async with self._client.stream("GET", url) as response:
            response.raise_for_status()
            data = bytearray()
            async for part in response.aiter_bytes():
                data += part
                if len(data) > _MAX_BYTES:
                    raise ValueError(f"{url} returns more than {_MAX_BYTES} bytes")
        return dict(httpx.Response(200, content=bytes(data)).json())


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return a claim by its name, or by a path of names with dots; None if there is none."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _invalid(why: str) -> Unauthenticated:
    return Unauthenticated("INVALID_TOKEN", f"The token is not valid. {why}")
