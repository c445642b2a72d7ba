"""What the gateway can be told."""

from dataclasses import dataclass

from services.settings import CommonSettings, setting


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Settings of the gateway."""

    listen: str = setting(
        "MEMETWIN_GATEWAY_LISTEN", "127.0.0.1:50050", "Address of the gateway's gRPC services."
    )
    http_listen: str = setting(
        "MEMETWIN_HTTP_LISTEN", "127.0.0.1:8080", "Address of the web page and the HTTP API."
    )
    embedder_address: str = setting(
        "MEMETWIN_EMBEDDER_ADDRESS", "127.0.0.1:50051", "Where the gateway finds the embedder."
    )
    search_address: str = setting(
        "MEMETWIN_SEARCH_ADDRESS", "127.0.0.1:50052", "Where the gateway finds search."
    )
    redis_url: str = setting("MEMETWIN_REDIS_URL", "redis://127.0.0.1:6379", "Redis to use.")
    redis_prefix: str = setting(
        "MEMETWIN_REDIS_PREFIX", "memetwin:", "What every key of ours begins with."
    )
    llm_base_url: str = setting(
        "MEMETWIN_LLM_BASE_URL",
        "",
        "OpenAI-compatible server that writes answers; empty means the extractive writer.",
    )
    llm_model: str = setting("MEMETWIN_LLM_MODEL", "", "Model that the language model server uses.")
    llm_api_key: str = setting("MEMETWIN_LLM_API_KEY", "", "Key for the language model server.")
    llm_prices: str = setting(
        "MEMETWIN_LLM_PRICES",
        "",
        "Money for a million tokens of prompt and of completion, as `0.15,0.60`: what hits save.",
    )
    cache_min_similarity: float = setting(
        "MEMETWIN_CACHE_MIN_SIMILARITY",
        0.95,
        "Least cosine at which a cached answer is served, if the call names no bound.",
    )
    cache_ttl: float = setting(
        "MEMETWIN_CACHE_TTL", 86400.0, "Seconds that a cached answer is kept; 0 keeps it for good."
    )
    cache_stale: float = setting(
        "MEMETWIN_CACHE_STALE",
        0.0,
        "Seconds past its end for which the chat serves an answer, while one call makes it anew.",
    )
    cache_memory: int = setting(
        "MEMETWIN_CACHE_MEMORY",
        2**30,
        "Bytes of Redis that cached answers may take, about; those worth least go. 0: no bound.",
    )
    api_keys_file: str = setting(
        "MEMETWIN_API_KEYS_FILE",
        "",
        "File of hashed API keys, their tenants and rights; empty lets everybody in.",
    )
    chat_max_temperature: float = setting(
        "MEMETWIN_CHAT_MAX_TEMPERATURE",
        1.0,
        "Temperature of sampling above which no chat answer is cached; one not given counts as 1.",
    )
    chat_lease: float = setting(
        "MEMETWIN_CHAT_LEASE",
        10.0,
        "Seconds after which another replica takes over an answer whose replica has died.",
    )
    rag_min_score: float = setting(
        "MEMETWIN_RAG_MIN_SCORE",
        0.4,
        "Least cosine of the best passage; below it a question is refused, unless calibrated.",
    )
    rag_prompt_tokens: int = setting(
        "MEMETWIN_RAG_PROMPT_TOKENS",
        8192,
        "Most tokens that a language model is sent for an answer, if the call does not say.",
    )
