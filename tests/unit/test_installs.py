"""What each install contains, by the requirements of the packages installed here."""

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.lock import EXTRAS, FOLDER, without_pytorch

CONSTRAINTS = Path(__file__).parents[2] / "deploy" / "constraints.txt"
# PyTorch may come from another index. Its dependencies on CUDA depend on the build.
PYTORCH = re.compile(r"torch|triton|nvidia-.*|cuda-.*|memetwin")
PINNED = re.compile(
    r"([A-Za-z0-9._-]+)==(\S+)(?: ; [^\\]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)"
)


def closure(extra: str) -> set[str]:
    """Names of all distributions that ``memetwin[extra]`` installs."""
    found: set[str] = set()
    queue = [Requirement(f"memetwin[{extra}]")]
    done: set[str] = set()
    while queue:
        wanted = queue.pop()
        if str(wanted) in done:
            continue
        done.add(str(wanted))
        found.add(wanted.name.lower())
        extras = wanted.extras or {""}
        try:
            lines = requires(wanted.name) or []
        except PackageNotFoundError:
            continue
        for line in lines:
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": one}) for one in extras):
                queue.append(requirement)
    return found


@pytest.mark.parametrize("extra", ["gateway", "search", "cli"])
def test_no_torch_where_no_model_is(extra: str) -> None:
    names = closure(extra)
    assert "grpcio" in names
    assert not names & {"torch", "sentence-transformers", "transformers"}


def test_the_embedder_has_torch() -> None:
    assert {"torch", "sentence-transformers", "pillow"} <= closure("embedder")


def pinned(extra: str) -> dict[str, str]:
    """The version of each package that an image installs."""
    text = (FOLDER / f"{extra}.txt").read_text()
    found = PINNED.findall(text)
    assert PINNED.sub("", text).strip() == "", "every line is a version or a hash"
    return {canonicalize_name(name): version for name, version, _ in found}


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_image_pins_everything_that_it_installs(extra: str) -> None:
    needed = {canonicalize_name(name) for name in closure(extra)}
    missing = {name for name in needed - pinned(extra).keys() if not PYTORCH.fullmatch(name)}
    assert not missing, "run make lock"


@pytest.mark.parametrize("extra", EXTRAS)
def test_images_use_the_versions_that_are_tested(extra: str) -> None:
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if "==" in line]
    tested = {
        str(canonicalize_name(name)): version
        for name, _, version in (line.partition("==") for line in lines)
    }
    versions = pinned(extra)
    different = {name for name in versions.keys() & tested.keys() if versions[name] != tested[name]}
    assert not different, "run make lock"


def test_pytorch_is_left_out_of_the_pinned_requirements() -> None:
    text = "".join(f"{one}==1 \\\n    --hash=sha256:0\n" for one in ("cuda-x", "torch", "tqdm"))
    assert without_pytorch(text) == "tqdm==1 \\\n    --hash=sha256:0\n"
