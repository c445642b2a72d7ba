"""Client libraries for Python work with the gateway's base URL alone, without our code."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import installs

SCRIPTS = sorted((Path(__file__).parent / "python").glob("*.py"))
# The file of cl100k_base, as tiktoken names it in its cache. Some client libraries ship it.
_ENCODING = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"


@pytest.fixture(scope="module")
def python() -> Path:
    return installs.python()


@pytest.fixture(scope="module", autouse=True)
def encodings(python: Path) -> Iterator[None]:
    """Let tiktoken find the encoding here and in the clients, without a download."""
    [file, *_] = (python.parents[1] / "lib").rglob(_ENCODING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(file.parent))
        yield


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_client_for_python(python: Path, environment: dict[str, str], script: Path) -> None:
    installs.run([str(python), "-W", "ignore", str(script)], environment)
