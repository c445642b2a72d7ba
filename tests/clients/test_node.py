"""Client libraries for Node work with the gateway's base URL or address alone."""

from pathlib import Path

import pytest

from tests.clients import installs

SCRIPTS = sorted(path.name for path in (Path(__file__).parent / "node").glob("*.mjs"))


@pytest.fixture(scope="module")
def node() -> Path:
    return installs.node()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_client_for_node(node: Path, environment: dict[str, str], script: str) -> None:
    installs.run(["node", str(node / script)], environment)
