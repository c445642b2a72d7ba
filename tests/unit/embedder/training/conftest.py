import pytest

from services.embedder.training import augmentations


@pytest.fixture
def few_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw a few captions and pages instead of hundreds, so that a test takes milliseconds."""
    monkeypatch.setattr(augmentations, "_CAPTIONS", 4)
    monkeypatch.setattr(augmentations, "_PAGES", 2)
