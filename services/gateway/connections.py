"""What all features of the gateway are built from: clients, API keys, the secret and alarms."""

import contextlib
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from redis.asyncio import Redis

from services import grpc_channel, redis_client
from services.gateway import redis_store
from services.gateway.alarms import Alarms
from services.gateway.auth.caller import current_tenant
from services.gateway.auth.keys import ApiKeys
from services.gateway.auth.limit_store import LimitStore
from services.gateway.auth.limiter import Limiter
from services.gateway.backends.backends import Backends
from services.gateway.backends.collections import CollectionClient
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.search import SearchClient
from services.gateway.cache.pricing import Prices
from services.gateway.circuit_breaker import CircuitBreaker
from services.gateway.coalescing.leases import LeaseStore
from services.gateway.coalescing.singleflight import Singleflight
from services.gateway.forwarding import services as forwarded
from services.gateway.llm.client import LanguageModelClient
from services.gateway.migration import Migration
from services.gateway.request_limits import MAX_REQUEST_BYTES
from services.gateway.settings import Settings
from services.gateway.shared_secret import SharedSecret, configured_secret
from services.gateway.tenants import Tenants
from services.grpc_server import ServiceSpec
from services.service_token import read_token, with_token

if TYPE_CHECKING:  # the libraries for tokens take memory that few gateways need
    from services.gateway.auth.oidc import TokenVerifier


@dataclass(frozen=True)
class Common:
    """What the features are built from."""

    settings: Settings
    stack: contextlib.AsyncExitStack
    redis: Redis
    backends: Backends
    collections: CollectionClient
    language_model: LanguageModelClient
    keys: ApiKeys
    secret: SharedSecret
    tenants: Tenants
    migration: Migration
    alarms: Alarms
    redis_breaker: CircuitBreaker = field(default_factory=CircuitBreaker)

    def singleflight(self) -> Singleflight:
        """Return a new singleflight. Its leases are under the circuit breaker of Redis."""
        settings = self.settings
        return Singleflight(
            LeaseStore(self.redis, settings.redis_prefix, settings.chat_lease, self.redis_breaker)
        )

    async def is_ready(self) -> bool:
        """Return whether Redis and the backends are ready, and old data is migrated."""
        if not self.migration.done.is_set():
            return False
        return await redis_store.is_ready(self.redis) and await self.backends.ready()

    async def can_chat(self) -> bool:
        """Return whether chat requests can be answered; a language model needs no cache for it."""
        return bool(self.settings.llm_base_url) or await self.is_ready()

    def spec(
        self,
        name: str,
        add: Callable[[Any, grpc.aio.Server], None],
        servicer: Any,
        is_ready: Callable[[], Awaitable[bool]] | None = None,
    ) -> ServiceSpec:
        """Return a service of the gateway; its callers need a key if there are keys."""
        service = f"memetwin.gateway.v1.{name}Service"
        register = functools.partial(add, servicer)
        return self._spec(name, service, register, is_ready or self.is_ready)

    def forwarded_specs(self) -> list[ServiceSpec]:
        """Return the services behind the gateway, which it also serves to its callers."""
        embedder, search = self.backends.embedder, self.backends.search
        to_embedder = forwarded.embedder_forwarder(embedder.channel)
        to_search = forwarded.search_forwarder(search.channel, self.tenants)
        return [
            self._spec("Embedder", to_embedder.name, to_embedder.register, embedder.ready),
            self._spec("Search", to_search.name, to_search.register, search.ready),
        ]

    def _spec(
        self,
        limits: str,
        service: str,
        register: Callable[[grpc.aio.Server], None],
        is_ready: Callable[[], Awaitable[bool]],
    ) -> ServiceSpec:
        return ServiceSpec(
            service,
            register,
            is_ready,
            self.keys.authenticate_rpc if self.keys.are_required else None,
            reload=self.keys.reload,
            max_request_bytes=MAX_REQUEST_BYTES[limits],
            owner=functools.partial(current_tenant, "") if self.keys.are_required else str,
        )


async def connect(settings: Settings, stack: contextlib.AsyncExitStack) -> Common:
    """Return clients of everything that the gateway calls. The stack closes them."""
    token = read_token(settings)
    embedder, search = [
        await stack.enter_async_context(with_token(grpc_channel.dial(address, settings.tls), token))
        for address in (settings.embedder_address, settings.search_address)
    ]
    redis = redis_store.connect(settings.redis_url, settings.tls)
    stack.push_async_callback(redis_client.close, redis)
    language_model = LanguageModelClient(
        settings.llm_base_url, settings.llm_model, settings.llm_api_key
    )
    stack.push_async_callback(language_model.close)
    alarms = Alarms()
    configured = configured_secret(settings.secret, settings.secret_file)
    migration = Migration(redis, settings.redis_prefix)
    secret = SharedSecret(redis, settings.redis_prefix, configured, alarms)
    tenants = Tenants(secret.read, migration.check)
    store = LimitStore(redis, settings.redis_prefix, functools.partial(tenants.hash_tag, "limits"))
    limiter = Limiter(store, Prices.parse(settings.llm_prices).cost)
    stack.push_async_callback(limiter.close)
    return Common(
        settings,
        stack,
        redis,
        Backends(EmbedderClient(embedder), SearchClient(search)),
        CollectionClient(search),
        language_model,
        ApiKeys.load(settings.api_keys_file, alarms, limiter, _tokens(settings, stack)),
        secret,
        tenants,
        migration,
        alarms,
    )


def _tokens(settings: Settings, stack: contextlib.AsyncExitStack) -> "TokenVerifier | None":
    if not settings.oidc_issuer:
        return None
    from services.gateway.auth.oidc import Provider, TokenVerifier  # noqa: PLC0415

    provider = Provider(
        settings.oidc_issuer,
        settings.oidc_audience,
        settings.oidc_jwks_url,
        settings.oidc_tenant_claim,
        settings.oidc_rights_claim,
        settings.oidc_user_claim,
    )
    tokens = TokenVerifier(provider)
    stack.push_async_callback(tokens.close)
    return tokens
