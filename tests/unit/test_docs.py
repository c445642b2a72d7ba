"""The documented tree matches the files, and no file names a machine."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


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
