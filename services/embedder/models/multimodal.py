"""Runs sentence-transformers models that take texts and images, or texts and audio."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import signal
from sentence_transformers import SentenceTransformer

from services.embedder.models.model import AudioClip, Content, PreparedInput, Vectors

# An image or a clip takes up as much of a batch as a text of this many tokens.
_MEDIA_COST = 128


class MultimodalRuntime:
    """Runs a model's own modules; several threads may call it."""

    def __init__(self, model: SentenceTransformer) -> None:
        self._model: Any = model
        # The model's tokenizer fails if two threads use it at the same time.
        self._tokenizer_lock = threading.Lock()

    def prepare(self, content: Content) -> PreparedInput:
        """Turn an image or a clip into the model's features, in the thread that decoded it."""
        truncated = False
        source: Any = content
        if isinstance(content, AudioClip):
            source, truncated = self._resample(content)
        features = self._features([source])
        return PreparedInput(features, _MEDIA_COST, 1, truncated, id(features))

    def compute(self, payloads: Sequence[Any]) -> Vectors:
        """Compute the vectors of texts and of prepared inputs, float32 [n, dimensions].

        A model's modules take one modality per batch, so each modality becomes its own batch.
        """
        rows_of: dict[str, list[int]] = {}
        for row, payload in enumerate(payloads):
            rows_of.setdefault(_modality(payload), []).append(row)
        parts = [
            (rows, self._vectors([payloads[row] for row in rows])) for rows in rows_of.values()
        ]
        vectors = np.empty((len(payloads), parts[0][1].shape[1]), np.float32)
        for rows, part in parts:
            vectors[rows] = part
        return vectors

    def _resample(self, clip: AudioClip) -> tuple[Any, bool]:
        """Resample a clip to the model's rate and cut it; return whether it was cut.

        The feature extractor would cut a longer clip itself, and some cut at a random position.
        """
        extractor = self._model.processor.feature_extractor
        rate, max_samples = extractor.sampling_rate, getattr(extractor, "nb_max_samples", None)
        samples = signal.resample_poly(clip.samples, rate, clip.sample_rate).astype(np.float32)
        cut = samples[:max_samples]
        return {"array": cut, "sampling_rate": rate}, len(cut) < len(samples)

    def _features(self, contents: Sequence[Any]) -> dict[str, Any]:
        """Apply the model's own preprocessing to inputs of one modality."""
        return dict(self._model.preprocess(list(contents)))

    def _vectors(self, payloads: Sequence[Any]) -> Vectors:
        if isinstance(payloads[0], str):
            with self._tokenizer_lock:
                joined = self._features(payloads)
        else:
            joined = _join(payloads)
        features = {
            name: value.to(self._model.device, non_blocking=True)
            if isinstance(value, torch.Tensor)
            else value
            for name, value in joined.items()
        }
        with torch.inference_mode():
            vectors = self._model(features)["sentence_embedding"]
        return np.asarray(vectors.float().cpu().numpy(), np.float32)


def _modality(payload: Any) -> str:
    return "text" if isinstance(payload, str) else str(payload.get("modality"))


def _join(payloads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack the features of inputs of one modality, in pinned memory if a GPU reads them."""
    pinned = torch.cuda.is_available()
    joined = dict(payloads[0])
    for name, value in payloads[0].items():
        if isinstance(value, torch.Tensor):
            whole = torch.cat([payload[name] for payload in payloads])
            joined[name] = whole.pin_memory() if pinned else whole
    return joined
