import json
from pathlib import Path
from xml.etree import ElementTree

from click.testing import CliRunner

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from services.cli.__main__ import main
from tests.refusals import refusal
from tests.stack import Stack

TOPICS = "cats dogs trains bread rivers chess violins planets gardens shoes kites soup".split()


def test_the_command_finds_bounds_and_draws_them(stack: Stack, tmp_path: Path) -> None:
    rows = []
    for topic in TOPICS:
        asked = f"How do I choose {topic}?"
        rows.append({"a": asked, "b": f"How can I choose {topic}?", "duplicate": True})
        rows.append({"a": asked, "b": f"Who sold the first {topic}?", "duplicate": False})
    file, curve = tmp_path / "pairs.jsonl", tmp_path / "curve.svg"
    file.write_text("\n".join(map(json.dumps, rows)))
    words = ["--gateway", stack.gateway_address, "cache", "calibrate", "--pairs", str(file)]
    done = CliRunner().invoke(main, [*words, "--curve", str(curve)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    first, second = done.output.splitlines()
    assert first.startswith("min_similarity : 0.")
    assert second.startswith("min_probability: 0.")
    assert "precision 1.000 [" in first
    assert len(ElementTree.parse(curve).findall(".//{*}polyline")) == 2
    file.write_text("{}")
    bad = CliRunner().invoke(main, words)
    assert bad.exit_code == 1
    assert "Line 1" in bad.output


def test_bad_pairs_are_refused(stack: Stack) -> None:
    stub = cache_pb2_grpc.CacheServiceStub(stack.gateway)

    def why(precision: float, count: int) -> str:
        pairs = [
            cache_pb2.LabelledPair(one=f"a{n}", other=f"b{n}", same=True) for n in range(count)
        ]
        request = cache_pb2.CalibrateRequest(precision=precision, pairs=pairs)
        return refusal(stub.Calibrate, iter([request]))[1]

    assert why(0.9, 5) == why(0.9, 0) == "TOO_FEW_PAIRS"
    assert why(1.5, 5) == "BAD_PRECISION"
