"""Runs the commands and snippets of the README and of every page below ``docs``.

The blocks of a page run in order, in one folder that looks like the repository's root. Each block
may build on the ones before it. A comment on the line above a block changes how it is run:

- ``<!-- not run: reason -->`` leaves it out
- ``<!-- file: name -->`` writes it to a file, which later blocks use
- ``<!-- language model -->`` runs it against a gateway that has a language model

A ``text`` block right below a block shows what it prints. Each of its lines must be in the output.
``…`` stands for anything, and numbers may differ.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.cli.load import DEMO, load_pictures, load_texts
from tests import language_model
from tests.conftest import leave_out
from tests.pages import ROOT, RUN, Block, Page, pages
from tests.service_process import ServiceProcess
from tests.stack import Stack, wait_until

GRPCURL = """#!/bin/sh
# grpcurl by way of buf, which the development install has: -plaintext [-d JSON] HOST:PORT METHOD
data={}
while [ $# -gt 2 ]; do
    if [ "$1" = -d ]; then data=$2; shift; fi
    shift
done
exec buf curl --protocol grpc --http2-prior-knowledge --data "$data" "http://$1/$2"
"""
NODE = ("@grpc/grpc-js@1", "@grpc/proto-loader@0.8", "openai@6")


@dataclass
class Shell:
    """Runs blocks in a folder; ``addresses`` replace those of the pages."""

    folder: Path
    path: str
    addresses: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, block: Block) -> str:
        """Run a block and return what it prints."""
        text = block.text
        for shown, real in self.addresses.items():
            text = text.replace(shown, real)
        words = {
            "sh": ["bash", "-euo", "pipefail", "-c", text],
            "python": [sys.executable, "-c", text],
            "js": ["node", "-e", text],
        }[block.language]
        done = subprocess.run(
            words,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            cwd=self.folder,
            timeout=300,
            env={**_clean(os.environ), **self.environment, "PATH": self.path},
        )
        # stdout comes first, because curl's progress meter would split its lines.
        printed = done.stdout + done.stderr
        assert done.returncode == 0, f"{text}\n{printed}"
        return printed


def _clean(environment: "os._Environ[str]") -> dict[str, str]:
    ours = ("MEMETWIN_", "OPENAI_", "TQDM_")
    kept = {name: value for name, value in environment.items() if not name.startswith(ours)}
    return kept | {"PYTHONPATH": f"{ROOT}:{ROOT}/protos/gen", "no_proxy": "127.0.0.1"}


@pytest.fixture(scope="module")
def loaded(stack: Stack) -> Stack:
    """The stack with the demo, as ``make up`` leaves it."""
    load_pictures(stack.gateway, DEMO / "pictures")
    load_texts(stack.gateway, DEMO / "memes.jsonl")
    return stack


@pytest.fixture(scope="module")
def with_language_model(stack: Stack, redis_url: str, prefix: str) -> Iterator[ServiceProcess]:
    """A second gateway on the same stack, which has a language model."""
    with language_model.running() as model:
        gateway = ServiceProcess(
            "gateway",
            EMBEDDER_ADDRESS=stack.embedder_address,
            SEARCH_ADDRESS=stack.search_address,
            REDIS_URL=redis_url,
            REDIS_PREFIX=prefix,
            LLM_BASE_URL=model.url,
            LLM_MODEL="parrot",
            LLM_PRICES="0.15,0.60",
        )
        with contextlib.closing(gateway):
            wait_until(lambda: urllib.request.urlopen(f"http://{gateway.http_address}/readyz"))
            yield gateway


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the commands that the pages use and this machine may lack."""
    folder = tmp_path_factory.mktemp("tools")
    if not shutil.which("grpcurl"):
        (folder / "grpcurl").write_text(GRPCURL)
        (folder / "grpcurl").chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm packages that the pages name."""
    if not shutil.which("npm"):
        leave_out("Node is not installed, so the pages' JavaScript cannot run")
    folder = tmp_path_factory.mktemp("node")
    words = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(folder)]
    done = subprocess.run([*words, *NODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "node_modules"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.path)
def test_what_a_page_shows_runs(
    page: Page, tmp_path: Path, request: pytest.FixtureRequest, tools: Path
) -> None:
    blocks = [
        block for block in page.blocks() if block.language in RUN and "not run" not in block.marks
    ]
    for one in ROOT.iterdir():
        if not one.name.startswith("."):
            (tmp_path / one.name).symlink_to(one)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    for block in blocks:
        if block.language in ("json", "jsonl") or "file" in block.marks:
            _write(block, tmp_path)
        else:
            shell = _shell(block, tmp_path, tools, request)
            _compare(block, shell.run(block), page)


def _shell(block: Block, folder: Path, tools: Path, request: pytest.FixtureRequest) -> Shell:
    """Return a shell with the addresses of the stack that a block is for."""
    stack: Stack = request.getfixturevalue("loaded")
    gateway, http = stack.gateway_address, stack.http_address
    if "language model" in block.marks:
        other: ServiceProcess = request.getfixturevalue("with_language_model")
        gateway, http = other.address, other.http_address
    environment = {
        "MEMETWIN_GATEWAY_ADDRESS": gateway,
        "MEMETWIN_SEARCH_ADDRESS": stack.search_address,
        "MEMETWIN_EMBEDDER_ADDRESS": stack.embedder_address,
    }
    if block.language == "js":
        environment["NODE_PATH"] = str(request.getfixturevalue("node_modules"))
    addresses = {
        "127.0.0.1:50050": gateway,
        "127.0.0.1:50051": stack.embedder_address,
        "127.0.0.1:50052": stack.search_address,
        "127.0.0.1:8080": http,
    }
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:{tools}"
    return Shell(folder, path, addresses, environment)


def _write(block: Block, folder: Path) -> None:
    """Check that a block of data is valid, and write it to its file if it names one."""
    if block.language == "json":
        json.loads(block.text)
    elif block.language == "jsonl":
        for line in block.text.splitlines():
            json.loads(line)
    if name := block.marks.get("file"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)


def _compare(block: Block, printed: str, page: Page) -> None:
    """Compare what a block prints with what the page shows, ignoring numbers and white space."""
    for line in block.expected.splitlines():
        pattern = _pattern(line)
        assert re.search(pattern, _plain(printed)), (
            f"{page.path}:{block.line} shows the line\n  {line}\nbut prints\n{printed}"
        )


def _plain(text: str) -> str:
    return re.sub(r"\d+(?:\.\d+)?(?:e-?\d+)?", "0", "".join(text.split()))


def _pattern(line: str) -> str:
    return ".*?".join(map(re.escape, _plain(line).split("…")))
