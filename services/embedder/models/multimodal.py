"""Models of sentence-transformers for text and pictures, or text and sounds."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import signal
from sentence_transformers import SentenceTransformer

from services.embedder.models.model import AudioClip, Content, PreparedInput
from services.embedder.models.runtimes import Rows

_PICTURE_COST = _SOUND_COST = 128


class Mixed:
    """Computes a model by its own modules; several threads may call it."""

    def __init__(self, model: SentenceTransformer) -> None:
        self._model: Any = model
        # The model's tokenizer fails if two threads use it at once.
        self._tokenizing = threading.Lock()

    def prepare(self, content: Content) -> PreparedInput:
        """Turn a picture or a sound into the model's input, in the thread that decoded it."""
        if isinstance(content, AudioClip):
            sound, cut = self._sound(content)
            features = self._features([sound])
            return PreparedInput(features, _SOUND_COST, 1, cut, id(features))
        features = self._features([content])
        return PreparedInput(features, _PICTURE_COST, 1, False, id(features))

    def compute(self, payloads: Sequence[Any]) -> Rows:
        """Compute texts and what ``prepare`` made: float32 [n, dimensions].

        Kind by kind, because the modules take no batch of several.
        """
        kinds = [_kind(payload) for payload in payloads]
        places = {kind: [n for n, own in enumerate(kinds) if own == kind] for kind in set(kinds)}
        parts = {kind: self._vectors([payloads[n] for n in places[kind]]) for kind in places}
        rows = np.empty((len(payloads), next(iter(parts.values())).shape[1]), np.float32)
        for kind, part in parts.items():
            rows[places[kind]] = part
        return rows

    def _sound(self, sound: AudioClip) -> tuple[Any, bool]:
        """Bring a sound to the model's rate and length; say whether it was cut.

        Longer sounds would be cut by the extractor, some at a random place.
        """
        extractor = self._model.processor.feature_extractor
        rate, most = extractor.sampling_rate, getattr(extractor, "nb_max_samples", None)
        whole = signal.resample_poly(sound.samples, rate, sound.sample_rate).astype(np.float32)
        array = whole[:most]
        return {"array": array, "sampling_rate": rate}, len(array) < len(whole)

    def _features(self, contents: Sequence[Any]) -> dict[str, Any]:
        """Return what the model's own preprocessing makes of inputs of one kind."""
        return dict(self._model.preprocess(list(contents)))

    def _vectors(self, payloads: Sequence[Any]) -> Rows:
        if isinstance(payloads[0], str):
            with self._tokenizing:
                joined = self._features(payloads)
        else:
            joined = _joined(payloads)
        features = {
            name: value.to(self._model.device, non_blocking=True) if _moves(value) else value
            for name, value in joined.items()
        }
        with torch.inference_mode():
            vectors = self._model(features)["sentence_embedding"]
        return np.asarray(vectors.float().cpu().numpy(), np.float32)


def _kind(payload: Any) -> str:
    return "text" if isinstance(payload, str) else str(payload.get("modality"))


def _moves(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _joined(payloads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join the features of several inputs of one kind, pinned where a GPU reads them."""
    pinned = torch.cuda.is_available()
    joined = dict(payloads[0])
    for name, value in payloads[0].items():
        if _moves(value):
            whole = torch.cat([payload[name] for payload in payloads])
            joined[name] = whole.pin_memory() if pinned else whole
    return joined
