import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import Question, Verifier
from tests.stack import Stack
from tools.train_verifier.training import train

TOPICS = "cats dogs trains bread rivers chess violins planets gardens shoes".split()
ASKED = "How do I choose {}?", "How can I choose {}?", "Why are {} so loved?", "Where are {} made?"


def test_the_command_makes_a_verifier_and_its_card(stack: Stack, tmp_path: Path) -> None:
    first, second, third, fourth = ASKED
    rows = [
        {"a": one.format(topic), "b": other.format(topic), "duplicate": other == second}
        for topic in [f"{colour} {topic}" for colour in ("red", "old", "tiny") for topic in TOPICS]
        for one, other in ((first, second), (first, third), (second, fourth), (third, fourth))
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--pairs", str(file), "--out", str(tmp_path), "--embedder", stack.embedder_address]
    done = CliRunner().invoke(train, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "README.md").read_text().strip() == done.output.strip()
    assert "held-out pairs" in done.output
    verifier = Verifier.load(tmp_path / "verifier.npz")
    asked = Question(LexicalText(first.format("blue cups")), np.zeros(384, np.float32))
    probable, improbable = (
        verifier.probability(asked, Question(LexicalText(text.format("blue cups"))), 0.9)
        for text in (second, third)
    )
    assert improbable < probable
