"""What each install contains, by the requirements of the packages installed here."""

from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.requirements import Requirement


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
