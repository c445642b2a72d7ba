"""The embedder's settings."""

from dataclasses import dataclass

from services.settings import CommonSettings, setting

RUNTIMES = ("auto", "exact", "torch")


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Settings of the embedder."""

    listen: str = setting(
        "MEMETWIN_EMBEDDER_LISTEN", "127.0.0.1:50051", "Address that the embedder listens on."
    )
    text_model: str = setting(
        "MEMETWIN_TEXT_MODEL",
        "all-MiniLM-L6-v2",
        "Default model for text: a sentence-transformers name or a folder.",
    )
    image_model: str = setting(
        "MEMETWIN_IMAGE_MODEL",
        "memetwin-convnet",
        "Default model for images: the project's own network, a folder that holds one, or the name"
        " of a CLIP-like sentence-transformers model.",
    )
    audio_model: str = setting(
        "MEMETWIN_AUDIO_MODEL",
        "",
        "Default model for audio: the name of a CLAP-like sentence-transformers model, or a folder."
        " Empty: none.",
    )
    rerank_model: str = setting(
        "MEMETWIN_RERANK_MODEL",
        "",
        "Default cross-encoder for reranking: a sentence-transformers name or a folder. Empty:"
        " none.",
    )
    verifier_model: str = setting(
        "MEMETWIN_VERIFIER_MODEL",
        "memetwin-question-pairs",
        "Cross-encoder that helps the cache to decide whether two questions ask the same. Empty:"
        " none.",
    )
    models: str = setting(
        "MEMETWIN_MODELS",
        "",
        "More models to load at startup: names or folders, separated by commas.",
    )
    lazy_models: str = setting(
        "MEMETWIN_LAZY_MODELS",
        "",
        "More models, each loaded at its first request: names or folders, separated by commas.",
    )
    trusted_models: str = setting(
        "MEMETWIN_TRUSTED_MODELS",
        "",
        "Configured models whose own Python code may be run, separated by commas. The code of all"
        " other models is never run.",
    )
    embed_cache: int = setting(
        "MEMETWIN_EMBED_CACHE",
        67_108_864,
        "Size of the embedder's vector cache in bytes; 0 disables it.",
    )
    queue_tokens: int = setting(
        "MEMETWIN_QUEUE_TOKENS",
        262_144,
        "Maximum tokens in one model's queue. When it is full, calls return RESOURCE_EXHAUSTED"
        " with a retry delay.",
    )
    runtime: str = setting(
        "MEMETWIN_RUNTIME",
        "auto",
        "Runtime for text models: `auto` selects the fastest one whose vectors agree with torch,"
        " `exact` requires a cosine of 0.9999 with torch, and `torch` always uses torch.",
    )
    exports: str = setting(
        "MEMETWIN_EXPORTS",
        "~/.cache/memetwin",
        "Folder for models converted for this machine; missing files are created again.",
    )

    def names(self, field: str) -> list[str]:
        """Return the names in a setting that lists several, separated by commas."""
        return [name for part in getattr(self, field).split(",") if (name := part.strip())]
