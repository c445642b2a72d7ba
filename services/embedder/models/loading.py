"""Loads a model by its name, whatever kind it is."""

from pathlib import Path

from services.embedder.models.convnet import ConvNetModel
from services.embedder.models.cross_encoder import CrossEncoderModel
from services.embedder.models.model import Model
from services.embedder.models.runtime_selection import RuntimeOptions
from services.embedder.models.sentence_transformer import SentenceTransformerModel
from services.embedder.settings import Settings


def load(name: str, settings: Settings) -> Model:
    """Load a model.

    Raises:
        ModelLoadError: it is not there, is not what it should be, or needs what is not installed.
    """
    trusted = name in settings.names("trusted_models")
    if ConvNetModel.owns(name):
        return ConvNetModel.load(name)
    embeds = name in (settings.text_model, settings.image_model, settings.audio_model)
    if name == settings.rerank_model or (not embeds and CrossEncoderModel.owns(name)):
        return CrossEncoderModel.load(name, trusted=trusted)
    return SentenceTransformerModel.load(
        name, RuntimeOptions(settings.runtime, Path(settings.exports)), trusted=trusted
    )
