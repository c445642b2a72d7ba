"""Loads a model by its name, whatever kind it is."""

from pathlib import Path

from services.embedder.models.convnet import OwnNetwork
from services.embedder.models.cross_encoder import CrossEncoders
from services.embedder.models.model import Model
from services.embedder.models.runtime_selection import Runtimes
from services.embedder.models.sentence_transformer import Sentences
from services.embedder.settings import Settings


def load(name: str, settings: Settings) -> Model:
    """Load a model.

    Raises:
        CannotLoad: it is not there, is not what it should be, or needs what is not installed.
    """
    trusted = name in settings.names("trusted_models")
    if OwnNetwork.owns(name):
        return OwnNetwork.load(name)
    embeds = name in (settings.text_model, settings.image_model, settings.audio_model)
    if name == settings.rerank_model or (not embeds and CrossEncoders.owns(name)):
        return CrossEncoders.load(name, trusted=trusted)
    return Sentences.load(name, Runtimes(settings.runtime, Path(settings.exports)), trusted=trusted)
