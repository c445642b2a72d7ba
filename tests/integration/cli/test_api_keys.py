import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result

from services.cli.__main__ import main, run
from tests.integration.cli.test_commands import lines
from tests.stack import Stack, wait_until_ready

KEY = "a key of our own"


@pytest.fixture(scope="module")
def guarded(redis_url: str, tmp_path_factory: Any, prefix: str) -> Iterator[Stack]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    rows = [{"sha256": hashlib.sha256(KEY.encode()).hexdigest(), "tenant": "acme"}]
    file.write_text(json.dumps(rows))
    stack = Stack(redis_url, f"{prefix}keys:", api_keys_file=str(file))
    wait_until_ready(stack)
    yield stack
    stack.close()


def command(stack: Stack, key: str, *words: str) -> Result:
    return CliRunner(env={"MEMETWIN_API_KEY": key}).invoke(
        main, ["--gateway", stack.gateway_address, *words]
    )


@pytest.fixture
def commands(tmp_path: Path) -> list[list[str]]:
    """Every command that calls the gateway, each after those that it builds on."""
    pairs = [
        {"a": f"Where is valley {n}?", "b": f"Where is valley {n} now?", "duplicate": n % 2}
        for n in range(80)
    ]
    corpus = [{"_id": "otter", "title": "Otter", "text": "Otters nap in the valley."}]
    queries = [{"_id": "1", "text": "Where do otters nap?"}]
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\totter\t1")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "note.txt").write_text("Newts hide.")
    files = [
        *("--corpus", lines(tmp_path, "corpus.jsonl", corpus)),
        *("--queries", lines(tmp_path, "queries.jsonl", queries)),
        *("--qrels", str(tmp_path / "qrels.tsv"), "--picture", str(tmp_path / "picture.png")),
    ]
    return [
        ["load", "--demo"],
        ["tour"],
        ["ingest", str(tmp_path / "notes")],
        ["evaluate", *files],
        ["cache", "calibrate", "--pairs", lines(tmp_path, "pairs.jsonl", pairs)],
    ]


def test_every_command_sends_the_key(guarded: Stack, commands: list[list[str]]) -> None:
    for words in commands:
        done = command(guarded, KEY, *words)
        assert done.exit_code == 0, (words, done.output, done.exception)


@pytest.mark.parametrize("key", ["", "another key"])
def test_without_a_known_key_they_are_refused(
    guarded: Stack, commands: list[list[str]], key: str
) -> None:
    for words in commands:
        refused = command(guarded, key, *words).exception
        assert isinstance(refused, grpc.Call), words
        assert refused.code() == grpc.StatusCode.UNAUTHENTICATED, words


def test_a_refusal_says_what_to_set(
    guarded: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MEMETWIN_API_KEY", raising=False)
    monkeypatch.setattr("sys.argv", ["memetwin", "--gateway", guarded.gateway_address, "tour"])
    with pytest.raises(SystemExit):
        run()
    assert "set MEMETWIN_API_KEY" in capsys.readouterr().err
