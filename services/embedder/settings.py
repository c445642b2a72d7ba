"""What the embedder can be told."""

from dataclasses import dataclass

from services.settings import CommonSettings, setting

RUNTIMES = ("auto", "exact", "torch")


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Settings of the embedder."""

    listen: str = setting("MEMETWIN_EMBEDDER_LISTEN", "127.0.0.1:50051", "Address of the embedder.")
    text_model: str = setting(
        "MEMETWIN_TEXT_MODEL",
        "all-MiniLM-L6-v2",
        "Model for texts: a sentence-transformers name, or a folder.",
    )
    image_model: str = setting(
        "MEMETWIN_IMAGE_MODEL",
        "memetwin-convnet",
        "Model for pictures: our own network, a folder of one, or a CLIP-like sentence-transformers"
        " name.",
    )
    audio_model: str = setting(
        "MEMETWIN_AUDIO_MODEL",
        "",
        "Model for sounds: a CLAP-like sentence-transformers name, or a folder; empty: none.",
    )
    rerank_model: str = setting(
        "MEMETWIN_RERANK_MODEL",
        "",
        "Cross-encoder that reranks: a sentence-transformers name, or a folder; empty: none.",
    )
    models: str = setting(
        "MEMETWIN_MODELS",
        "",
        "Further models, names or folders, separated by commas; they are loaded at the start.",
    )
    lazy_models: str = setting(
        "MEMETWIN_LAZY_MODELS",
        "",
        "Further models that are loaded when they are first asked for.",
    )
    trusted_models: str = setting(
        "MEMETWIN_TRUSTED_MODELS",
        "",
        "Models, of those named elsewhere, whose folders may bring code that is run; of no others"
        " is it ever run.",
    )
    embed_cache: int = setting(
        "MEMETWIN_EMBED_CACHE",
        67_108_864,
        "Bytes of vectors that the embedder remembers, so that equal inputs are computed once.",
    )
    queue_tokens: int = setting(
        "MEMETWIN_QUEUE_TOKENS",
        262_144,
        "Tokens that may wait for one model; beyond that calls are refused with a retry hint.",
    )
    runtime: str = setting(
        "MEMETWIN_RUNTIME",
        "auto",
        "What computes text models: the fastest that agrees with torch (`auto`; `exact` insists on"
        " a cosine of 0.9999), or `torch`.",
    )
    exports: str = setting(
        "MEMETWIN_EXPORTS",
        "~/.cache/memetwin",
        "Folder of models that were converted for this machine; what is missing is made again.",
    )

    def names(self, field: str) -> list[str]:
        """Return the names in a field that holds several."""
        return [name for part in getattr(self, field).split(",") if (name := part.strip())]
