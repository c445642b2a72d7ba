from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.embedder.models.model import Vectors
from services.embedder.training import evaluation
from services.embedder.training.evaluation import Recall
from services.embedder.training.image_dataset import ImageDataset
from services.embedder.training.image_edits import EDITS
from tests.fakes.datasets import plain_images


class GreyNetwork:
    """A network whose vectors lie on a quarter of a circle, by the mean of the image."""

    def prepare(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.convert("L").resize((8, 8)))

    def encode(self, batch: np.ndarray) -> Vectors:
        angle = batch.reshape(len(batch), -1).mean(1) / 255 * np.pi / 2
        return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32) * 3


NETWORK: Any = GreyNetwork()


def test_the_nearest_rows_come_first() -> None:
    stored = np.array([[1, 0], [0, 1], [0.6, 0.8], [-1, 0], [0, -1], [0.8, 0.6]], np.float32)
    order = evaluation.nearest(np.array([[1, 0]], np.float32), stored)
    assert order.tolist() == [[0, 5, 2, 1, 4]]


def test_recall_counts_the_first_rank_and_the_first_five() -> None:
    hits = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0], [1, 1, 0]], bool)
    assert evaluation.recall(hits) == Recall(0.5, 0.75)


def test_an_edited_image_is_a_query_for_its_original(tmp_path: Path) -> None:
    files = []
    for grey in (0, 128, 255):
        files.append(tmp_path / f"{grey}.png")
        Image.new("L", (100, 80), grey).save(files[-1])
    found = evaluation.recall_by_edit(NETWORK, files)
    assert list(found) == ["all", *EDITS]
    # A plain image keeps its mean when it is mirrored or cropped.
    assert found["mirror"] == found["crop"] == Recall(1, 1)
    assert found["all"].at_1 == pytest.approx(np.mean([found[edit].at_1 for edit in EDITS]))


def test_a_query_looks_for_images_of_its_label() -> None:
    stored = plain_images({"dark": 20, "light": 230}, 6)
    near, far = plain_images({"dark": 40, "light": 210}, 2), plain_images({"light": 30}, 2)
    assert evaluation.recall_by_label(NETWORK, stored, near) == Recall(1, 1)
    assert evaluation.recall_by_label(NETWORK, stored, far) == Recall(0, 0)


def test_large_data_sets_are_encoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_BATCH", 2)
    stored: ImageDataset = plain_images({"dark": 20, "light": 230}, 3)
    assert evaluation.recall_by_label(NETWORK, stored, stored) == Recall(1, 1)
