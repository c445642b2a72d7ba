"""Settings of the gateway."""

from dataclasses import dataclass
from typing import ClassVar

from services.settings import CommonSettings, setting


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Settings of the gateway, each read from its environment variable."""

    max_calls_of_connection: ClassVar[int] = 100

    listen: str = setting(
        "MEMETWIN_GATEWAY_LISTEN",
        "127.0.0.1:50050",
        "Listen address of the gateway's gRPC services.",
    )
    http_listen: str = setting(
        "MEMETWIN_HTTP_LISTEN",
        "127.0.0.1:8080",
        "Listen address of the HTTP API and the web page.",
    )
    allowed_hosts: str = setting(
        "MEMETWIN_ALLOWED_HOSTS",
        "",
        "Names under which the HTTP API may be reached while there are no API keys, separated by "
        "commas, for example those of a proxy. Addresses and names of private networks are always "
        "allowed.",
    )
    cors_origins: str = setting(
        "MEMETWIN_CORS_ORIGINS",
        "",
        "Origins whose web pages may call the HTTP API from a browser, such as "
        "`https://app.example`, separated by commas. `*` allows all and needs API keys. Empty: "
        "none.",
    )
    http_keepalive: float = setting(
        "MEMETWIN_HTTP_KEEPALIVE_SECONDS",
        15.0,
        "Seconds without an event after which a stream over HTTP sends a comment, so that proxies "
        "keep the connection open.",
    )
    embedder_address: str = setting(
        "MEMETWIN_EMBEDDER_ADDRESS",
        "127.0.0.1:50051",
        "Address at which the gateway dials the embedder.",
    )
    search_address: str = setting(
        "MEMETWIN_SEARCH_ADDRESS",
        "127.0.0.1:50052",
        "Address at which the gateway dials the search service.",
    )
    redis_url: str = setting(
        "MEMETWIN_REDIS_URL",
        "redis://127.0.0.1:6379",
        "URL of Redis.",
        secret=True,
    )
    redis_prefix: str = setting(
        "MEMETWIN_REDIS_PREFIX",
        "memetwin:",
        "Prefix of every key that memetwin has in Redis.",
    )
    secret: str = setting(
        "MEMETWIN_SECRET",
        "",
        "Secret that keys the names of all that tenants and users store: 64 hexadecimal digits, "
        "the same for all replicas. With another secret, stored data is not found. Empty: the "
        "first replica creates a secret in Redis.",
        secret=True,
    )
    secret_file: str = setting(
        "MEMETWIN_SECRET_FILE",
        "",
        "File that contains the secret, instead of `MEMETWIN_SECRET`.",
    )
    llm_base_url: str = setting(
        "MEMETWIN_LLM_BASE_URL",
        "",
        "Base URL of an OpenAI-compatible language model server, up to `/v1`. Empty: chat "
        "is refused, and RAG quotes documents instead of writing answers.",
        secret=True,
    )
    llm_model: str = setting(
        "MEMETWIN_LLM_MODEL",
        "",
        "Model to request from the language model server when a request names none.",
    )
    llm_api_key: str = setting(
        "MEMETWIN_LLM_API_KEY",
        "",
        "API key for the language model server.",
        secret=True,
    )
    llm_prices: str = setting(
        "MEMETWIN_LLM_PRICES",
        "",
        "Price of a million prompt tokens and of a million completion tokens, as "
        "`0.15,0.60`. The statistics use it to report what cache hits save.",
    )
    cache_max_error_rate: float = setting(
        "MEMETWIN_CACHE_MAX_ERROR_RATE",
        0.03,
        "Largest expected share of wrong answers among semantic hits, for requests that name no "
        "bound.",
    )
    cache_min_similarity: float | None = setting(
        "MEMETWIN_CACHE_MIN_SIMILARITY",
        None,
        "Minimum cosine similarity for serving a cached answer when the request names no bound. "
        "If set, it replaces `MEMETWIN_CACHE_MAX_ERROR_RATE`.",
    )
    cache_ttl: float = setting(
        "MEMETWIN_CACHE_TTL",
        86400.0,
        "Time to live of a cached answer in seconds; 0 means no limit.",
    )
    cache_stale: float = setting(
        "MEMETWIN_CACHE_STALE",
        0.0,
        "Seconds for which the chat still serves an answer past its time to live, while "
        "one call replaces it.",
    )
    cache_memory: int = setting(
        "MEMETWIN_CACHE_MEMORY",
        2**30,
        "Approximate limit of the Redis memory for cached answers, in bytes. Above it the "
        "cache evicts by GreedyDual-Size-Frequency (GDSF). 0 means no limit.",
    )
    cache_tenant_memory: int = setting(
        "MEMETWIN_CACHE_TENANT_MEMORY",
        0,
        "Approximate limit of the Redis memory for the cached answers of each tenant, in bytes. "
        "0 means no limit besides `MEMETWIN_CACHE_MEMORY`.",
    )
    embedding_tokens: str = setting(
        "MEMETWIN_EMBEDDING_TOKENS",
        "",
        "Encoding of the token ids that callers of `/v1/embeddings` send instead of texts, for "
        "example `cl100k_base`, whose ids LangChain's `OpenAIEmbeddings` sends. `model`: that of "
        "the model's own tokenizer. Empty: they are refused.",
    )
    cache_lookup_log: int = setting(
        "MEMETWIN_CACHE_LOOKUP_LOG",
        200,
        "Number of the latest semantic hits, and of the latest misses, of each tenant that the "
        "page `/cache` lists with the first 500 characters of their prompts. They are deleted "
        "after 7 days. 0 turns the list off.",
    )
    reembed: bool = setting(
        "MEMETWIN_REEMBED",
        True,
        "Whether to embed cached prompts and documents again, in the background, after the text "
        "model has changed. Otherwise the gateway only logs and counts them.",
    )
    api_keys_file: str = setting(
        "MEMETWIN_API_KEYS_FILE",
        "",
        "File of hashed API keys with their tenants and rights. Empty: callers are not "
        "authenticated.",
    )
    oidc_issuer: str = setting(
        "MEMETWIN_OIDC_ISSUER",
        "",
        "URL of an OpenID Connect provider whose tokens callers may send instead of API keys.",
    )
    oidc_audience: str = setting(
        "MEMETWIN_OIDC_AUDIENCE",
        "",
        "Audience (`aud`) of the tokens for this gateway.",
    )
    oidc_jwks_url: str = setting(
        "MEMETWIN_OIDC_JWKS_URL",
        "",
        "URL of the provider's keys (JWKS). Empty: the gateway discovers it.",
        secret=True,
    )
    oidc_tenant_claim: str = setting(
        "MEMETWIN_OIDC_TENANT_CLAIM",
        "tenant",
        "Claim that names the caller's tenant. A dot leads into an object.",
    )
    oidc_rights_claim: str = setting(
        "MEMETWIN_OIDC_RIGHTS_CLAIM",
        "rights",
        "Claim with the caller's rights: a list, or a text with spaces such as `scope`.",
    )
    oidc_user_claim: str = setting(
        "MEMETWIN_OIDC_USER_CLAIM",
        "",
        "Claim that names the only user of the caller's cache scopes. Empty: any user.",
    )
    migration_dry_run: bool = setting(
        "MEMETWIN_MIGRATION_DRY_RUN",
        False,
        "Log how many keys of an earlier version the gateway would rename at its start, and exit.",
    )
    shared_twins: bool = setting(
        "MEMETWIN_SHARED_TWINS",
        False,
        "Whether all tenants find the default tenant's pictures. Only the default tenant changes "
        "them.",
    )
    chat_max_temperature: float = setting(
        "MEMETWIN_CHAT_MAX_TEMPERATURE",
        1.0,
        "Maximum sampling temperature at which a chat answer is cached. A request without "
        "a temperature counts as 1.",
    )
    chat_lease: float = setting(
        "MEMETWIN_CHAT_LEASE",
        10.0,
        "Seconds after which another replica takes over the answer of a replica that has died.",
    )
    rag_min_score: float = setting(
        "MEMETWIN_RAG_MIN_SCORE",
        0.4,
        "Minimum cosine similarity of the best passage for answering a question when no "
        "calibration applies. Below it the answer is a refusal.",
    )
    rag_prompt_tokens: int = setting(
        "MEMETWIN_RAG_PROMPT_TOKENS",
        8192,
        "Maximum tokens in the prompt to the language model when the request names no limit.",
    )
    rag_chunk_tokens: int = setting(
        "MEMETWIN_RAG_CHUNK_TOKENS",
        512,
        "Maximum tokens in a chunk of a document, if the text model reads as many. A new value "
        "applies to each document when it is next ingested.",
    )

    @property
    def allowed_host_names(self) -> frozenset[str]:
        """The names in ``allowed_hosts``."""
        return frozenset(filter(None, self.allowed_hosts.lower().replace(" ", "").split(",")))
