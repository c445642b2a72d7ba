"""Loads a model of any kind by its name."""

from pathlib import Path

from services.embedder.models.convnet import ConvNetModel
from services.embedder.models.cross_encoder import CrossEncoderModel
from services.embedder.models.model import Model
from services.embedder.models.question_pairs import QUESTION_PAIR_MODEL, QuestionPairModel
from services.embedder.models.runtime_selection import RuntimeOptions
from services.embedder.models.sentence_transformer import SentenceTransformerModel
from services.embedder.settings import Settings


def load(name: str, settings: Settings) -> Model:
    """Load a model.

    Raises:
        ModelLoadError: the model is missing or unusable, or needs a package that is not installed.
    """
    trusted = name in settings.names("trusted_models")
    if ConvNetModel.matches(name):
        return ConvNetModel.load(name)
    options = RuntimeOptions(settings.runtime, Path(settings.exports))
    if name == QUESTION_PAIR_MODEL:
        return QuestionPairModel.load(options)
    embeds = name in (settings.text_model, settings.image_model, settings.audio_model)
    if name == settings.rerank_model or (not embeds and CrossEncoderModel.matches(name)):
        return CrossEncoderModel.load(name, trusted=trusted)
    return SentenceTransformerModel.load(name, options, trusted=trusted)
