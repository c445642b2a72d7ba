from pathlib import Path

import pytest
from PIL import Image

from services.embedder.models.network import Network
from services.embedder.training import image_training
from services.embedder.training.job import TrainingJob
from services.embedder.training.trainer import TrainerConfig
from tests.fakes.networks import tiny_architecture

pytestmark = pytest.mark.usefixtures("few_drawings")


@pytest.fixture
def declaration(tmp_path: Path) -> Path:
    file = tmp_path / "declared.json"
    file.write_text(tiny_architecture().to_json())
    return file


def job(tmp_path: Path, *names: str, hold_out: int = 3) -> TrainingJob:
    folder = tmp_path / "images"
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").rotate(number * 30).resize((30, 20)).save(folder / name)
    return TrainingJob(folder, tmp_path / "net", TrainerConfig(1), hold_out)


def test_images_become_a_network_with_a_card(
    tmp_path: Path, declaration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = job(tmp_path, *(f"{n}.png" for n in range(6)))
    (training.data / "notes.txt").write_text("not an image")
    card = image_training.train(training, declaration, labelled=None)
    network = Network.load(training.out)
    assert network.name == "net"
    assert card == (training.out / "README.md").read_text()
    for part in (
        f"Digest\n`{network.digest}`",
        "Trained on 4 images of `images`; 2 were held out (the first of every 3 images, by name)",
        "without labels, by contrast",
        "Each of 2 held-out images is edited",
        "| all |",
        "feature maps\nof `0.png`",
    ):
        assert part in card
    printed = capsys.readouterr()
    assert "self-supervised: no labels\ntraining on 4 images, 2 held out" in printed.out
    assert "skipped: notes.txt: " in printed.err
    assert not (training.out / "checkpoint.pt").exists()
    assert (training.out / "pictures" / "input.png").exists()


def test_sub_folders_are_labels(
    tmp_path: Path, declaration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = job(tmp_path, *(f"{kind}/{n}.png" for kind in "ab" for n in range(3)))
    card = image_training.train(training, declaration, labelled=None)
    assert "supervised: 2 labels, the sub-folders a, b\n" in capsys.readouterr().out
    assert "on labels, the names of sub-folders" in card
    assert "Accuracy on the labels of held-out images: " in card


def test_nothing_held_out_means_no_figures(tmp_path: Path, declaration: Path) -> None:
    training = job(tmp_path, "a.png", "b.png", hold_out=0)
    card = image_training.train(training, declaration, labelled=None)
    assert "Nothing was held out, so the model was not evaluated" in card


def test_one_image_is_too_few(tmp_path: Path, declaration: Path) -> None:
    with pytest.raises(ValueError, match="at least two readable images that are not held out"):
        image_training.train(job(tmp_path, "a.png", "b.png"), declaration, labelled=None)
    assert not (tmp_path / "net").exists()
