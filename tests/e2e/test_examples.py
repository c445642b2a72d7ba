"""The README's examples, run as they stand."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.cli import tour
from services.cli.load import DEMO, load_pictures, load_texts
from tests.conftest import ROOT, leave_out
from tests.stack import Stack


def example(language: str) -> list[str]:
    readme = (ROOT / "README.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", readme, re.M | re.S)


@pytest.fixture(scope="module")
def loaded(stack: Stack) -> Stack:
    load_pictures(stack.gateway, DEMO / "pictures")
    load_texts(stack.gateway, DEMO / "memes.jsonl")
    return stack


def run(*words: str, **options: str) -> str:
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python(loaded: Stack) -> None:
    [code] = example("python")
    code = code.replace("127.0.0.1:50050", loaded.gateway_address)
    assert "Press the button." in run(sys.executable, "-c", code)


def test_node(loaded: Stack, tmp_path: Path) -> None:
    if not shutil.which("npm"):
        leave_out("no Node for its example")
    packages = ["@grpc/grpc-js@1", "@grpc/proto-loader@0.8"]
    run(
        "npm",
        "install",
        "--silent",
        "--no-fund",
        "--no-audit",
        "--prefix",
        str(tmp_path),
        *packages,
    )
    [code] = example("js")
    answer = run(
        "node",
        "-e",
        code,
        NODE_PATH=str(tmp_path / "node_modules"),
        MEMETWIN_GATEWAY_ADDRESS=loaded.gateway_address,
    )
    assert "Christopher Torres" in answer


def test_curl(loaded: Stack) -> None:
    if not shutil.which("curl"):
        leave_out("no curl for its example")
    twin, question, upload = [
        line for code in example("sh") for line in code.splitlines() if line.startswith("curl")
    ]
    # --json needs curl 7.82; older ones say the same at greater length.
    question = question.replace("--json", "-H 'Content-Type: application/json' -d")
    for command, expected in (
        (twin, "Cat With A Deadline"),
        (question, "Christopher Torres"),
        (upload, "RECEIPT_STATUS_CREATED"),
    ):
        local = command.replace("127.0.0.1:8080", loaded.http_address)
        assert expected in run("bash", "-c", local)


def test_grpcurl_finds_what_the_readme_asks_by_reflection(loaded: Stack) -> None:
    """The command itself where grpcurl is installed; its call, by reflection, everywhere."""
    [command] = [code for code in example("sh") if code.startswith("grpcurl")]
    if shutil.which("grpcurl"):
        local = command.replace("127.0.0.1:50050", loaded.gateway_address)
        assert "Christopher Torres" in run("bash", "-c", local)
    from google.protobuf import json_format
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(loaded.gateway))
    [(body, name)] = re.findall(r"-d '(.*)'.*?([\w.]+/\w+)$", command, re.S | re.M)
    service, method = name.split("/")
    described = pool.FindServiceByName(service).FindMethodByName(method)
    reply_type = GetMessageClass(described.output_type)
    request = json_format.Parse(body, GetMessageClass(described.input_type)())
    call: Any = loaded.gateway.unary_unary(
        f"/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=reply_type.FromString,
    )
    assert "Christopher Torres" in json_format.MessageToJson(call(request, timeout=60))


def test_the_tour(loaded: Stack) -> None:
    lines: list[str] = []
    tour.run(loaded.gateway, lines.append)
    told = "\n".join(lines)
    for expected in (
        "cosine        → Cat With A Deadline",
        "inner product → Cat With A Deadline",
        "Euclidean     → Cat With A Deadline",
        "  exact ",
        "  semantic ",
        "  miss ",
        "cites grumpy-cat",
        "refused: REFUSAL_REASON_NO_RELEVANT_CONTEXT",
    ):
        assert expected in told
