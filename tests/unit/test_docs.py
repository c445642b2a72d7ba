"""The documentation names every setting, target and rpc, and its tree is the real one."""

import dataclasses
import re
from pathlib import Path

import pytest

from services.embedder.settings import Settings as EmbedderSettings
from services.gateway.settings import Settings as GatewaySettings
from services.search.settings import Settings as SearchSettings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("kind", [EmbedderSettings, GatewaySettings, SearchSettings])
def test_every_setting_is_a_row_with_its_default(kind: type) -> None:
    for field in dataclasses.fields(kind):
        [row] = re.findall(rf"^\| `{field.metadata['env']}` \|.*$", README, re.M)
        assert field.metadata["doc"] in row
        assert (f"`{field.default}`" if field.default != "" else "none") in row


def test_every_variable_that_is_read_is_in_the_readme() -> None:
    for folder in ("services", "deploy", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in re.findall(r"MEMETWIN_[A-Z]+(?:_[A-Z]+)*", path.read_text()):
                assert name in README, f"{name} of {path.relative_to(ROOT)}"


def test_every_target_is_in_the_readme_and_in_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.M)
    for target in phony.split():
        assert re.search(rf"^{target}:.*## ", makefile, re.M), target
        assert f"`{target}`" in README or f"make {target}" in README, target


def test_the_tree_names_files_that_exist() -> None:
    tree = README.partition("## The tree")[2].partition("```")[2].partition("```")[0]
    known = {path.name for path in ROOT.rglob("*") if ".venv" not in path.parts}
    for name in re.findall(r"[\w-]+\.(?:py|md)|[\w-]+(?=/)", tree):
        assert name in known, name


def test_nothing_names_a_machine() -> None:
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if path.suffix in (".py", ".md", ".toml", ".yaml", ".sh") and not {
            ".venv",
            ".memetwin",
        } & set(parts):
            assert "/wor" + "k/" not in path.read_text(errors="replace"), path
