"""The recall of the shipped network on images that it was not trained on."""

import json
from pathlib import Path

import pytest

from services.embedder.models.network import SHIPPED_FOLDER, WEIGHTS_FILE, Network
from tests.bench import twins

METRICS = ("cosine", "ip", "l2")


@pytest.fixture(scope="module")
def network() -> Network:
    return Network.load(SHIPPED_FOLDER)


def files(kind: str) -> list[Path]:
    if not (twins.data_folder() / kind).is_dir():
        pytest.skip(f"MEMETWIN_TEST_DATA has no {kind}")
    return twins.memes() if kind == "memes" else twins.held_out_photos()


@pytest.fixture(scope="module")
def meme_recall(network: Network) -> twins.Recall:
    return twins.recall(twins.with_network(network), files("memes"))


def test_it_is_small_and_its_card_describes_it(network: Network) -> None:
    assert (SHIPPED_FOLDER / WEIGHTS_FILE).stat().st_size < 8_000_000
    card = (SHIPPED_FOLDER / "README.md").read_text()
    for part in (network.digest, "No meme was ever trained on", "Weights and code: Apache-2.0"):
        assert part in card
    assert json.loads((SHIPPED_FOLDER / "architecture.json").read_text())["name"] == network.name


@pytest.mark.parametrize("metric", METRICS)
def test_each_meme_finds_itself(meme_recall: twins.Recall, metric: str) -> None:
    assert meme_recall["none"][metric] == 1


@pytest.mark.parametrize("metric", METRICS)
def test_edited_memes_find_their_meme(meme_recall: twins.Recall, metric: str) -> None:
    assert twins.overall(meme_recall, metric) >= 0.99


def test_edited_held_out_photographs_find_their_photograph(network: Network) -> None:
    recall = twins.recall(twins.with_network(network), files("photos"))
    assert all(twins.overall(recall, metric) >= 0.97 for metric in METRICS)
