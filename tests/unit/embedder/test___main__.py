import pytest

from services.embedder.__main__ import model_specs
from services.embedder.settings import Settings
from services.settings import SettingError


def test_a_model_may_be_the_default_of_several_modalities() -> None:
    settings = Settings(
        text_model="clip", image_model="clip", audio_model="", rerank_model="ce", verifier_model=""
    )
    specs = {spec.name: spec.default_for for spec in model_specs(settings)}
    assert specs == {"clip": {"text", "image"}, "ce": {"pair"}}


def test_models_are_lazy_only_if_they_are_named_nowhere_else() -> None:
    settings = Settings(
        text_model="a", image_model="b", models="c, d,", lazy_models="d, e, a", verifier_model=""
    )
    assert {spec.name: spec.lazy for spec in model_specs(settings)} == {
        "a": False,
        "b": False,
        "c": False,
        "d": False,
        "e": True,
    }


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(SettingError, match="'fast' is not one of auto, exact, torch"):
        model_specs(Settings(runtime="fast"))
