"""SECURITY.md names a test for each threat."""

import re

from tests.pages import ROOT, page

TEXT = page("SECURITY.md").text


def rows() -> list[tuple[str, str, str]]:
    """Return the threat, the defence and the tests of each row."""
    table = TEXT.partition("## Threats")[2].partition("\n## ")[0]
    return re.findall(r"^\| (?!threat|---)(.+?) \| (.+?) \| (.+?) \|$", table, re.M)


def test_every_threat_has_a_test() -> None:
    assert len(rows()) > 10
    for threat, _, tests in rows():
        paths = re.findall(r"`(tests/[\w/]+\.py)`", tests)
        assert paths, threat
        for path in paths:
            assert (ROOT / path).is_file(), f"{threat}: {path} does not exist"


def test_every_attack_is_named() -> None:
    named = re.findall(r"`(tests/attacks/test_\w+\.py)`", TEXT)
    attacks = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/attacks/test_*.py")]
    assert sorted(set(named)) == sorted(attacks)
