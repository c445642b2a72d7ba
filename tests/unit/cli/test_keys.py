import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from services.cli.keys import keys
from services.key_file import Limits, parse, sha256


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def run(file: Path, *words: str) -> Result:
    return CliRunner(env={"MEMETWIN_API_KEYS_FILE": str(file)}).invoke(keys, words)


def create(file: Path, *words: str) -> str:
    done = run(file, "create", *words)
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


def test_a_new_key_is_printed_and_only_its_hash_is_stored(file: Path) -> None:
    key = create(file, "--tenant", "acme")
    assert key not in file.read_text()
    assert parse(file.read_bytes()).keys[sha256(key)].tenant == "acme"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_new_key_has_the_fields_that_are_named(file: Path) -> None:
    words = ["--tenant", "acme", "--name", "app", "--right", "rag:read", "--right", "cache"]
    words += ["--collection", "manuals", "--user", "ann", "--namespace", "b", "--namespace", "a"]
    words += ["--limit", "requests_per_minute=60", "--limit", "money_per_day=2.5"]
    key = create(file, *words, "--not-after", "2100-01-31T12:00:00Z")
    found = parse(file.read_bytes()).keys[sha256(key)]
    assert found.rights == {"rag:read", "cache:read", "cache:write"}
    assert found.collections == frozenset({"manuals"})
    assert (found.name, found.user, found.namespaces) == ("app", "ann", ("b", "a"))
    assert found.not_after > 0
    assert found.limits == Limits(requests_per_minute=60, money_per_day=2.5)


def test_a_wrong_field_changes_nothing(file: Path) -> None:
    for words, message in (
        (["--right", "everything"], "'everything' is not a right"),
        (["--limit", "requests=5"], "unknown field 'requests'"),
        (["--limit", "requests_per_minute"], "not of the form NAME=NUMBER"),
        (["--not-after", "tomorrow"], "not an RFC 3339 time"),
    ):
        failed = run(file, "create", "--tenant", "acme", *words)
        assert failed.exit_code
        assert message in failed.output
    assert not file.exists()


def test_the_list_shows_each_key(file: Path) -> None:
    first = create(file, "--tenant", "acme", "--name", "app")
    second = create(file, "--tenant", "b", "--right", "rag", "--not-after", "2001-01-01T00:00:00Z")
    header, *lines = run(file, "list").output.splitlines()
    assert header.split() == ["id", "name", "tenant", "rights", "not", "after", "state"]
    assert lines[0].split() == [sha256(first)[:8], "app", "acme", "all", "but", "admin", "valid"]
    assert lines[1].split() == [sha256(second)[:8], "b", "rag", "2001-01-01T00:00:00Z", "expired"]


def test_a_revoked_key_is_gone_and_the_rest_of_the_file_stays(file: Path) -> None:
    row = {"sha256": sha256("kept"), "tenant": "acme", "limits": {"concurrent_calls": 1}}
    tenants = {"acme": {"requests_per_minute": 5}}
    file.write_text(json.dumps({"keys": [row], "tenants": tenants}))
    key = create(file, "--tenant", "acme")
    assert run(file, "revoke", sha256(key)[:8]).exit_code == 0
    assert json.loads(file.read_text()) == {"keys": [row], "tenants": tenants}


@pytest.mark.parametrize("key_id", ["", "0", "0" * 8])
def test_an_id_that_no_key_has_is_refused(file: Path, key_id: str) -> None:
    key = create(file, "--tenant", "acme")
    failed = run(file, "revoke", key_id)
    assert failed.exit_code == 1
    assert "No key has the id" in failed.output
    assert sha256(key) in parse(file.read_bytes()).keys


def test_a_file_that_is_not_valid_is_not_replaced(file: Path) -> None:
    file.write_text("{")
    for words in (["create", "--tenant", "acme"], ["list"], ["revoke", "0" * 8]):
        failed = run(file, *words)
        assert failed.exit_code == 1
        assert str(file) in failed.output
    assert file.read_text() == "{"


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.json"
    target.write_text("[]")
    file.symlink_to(target)
    create(file, "--tenant", "acme")
    assert file.is_symlink()
    assert len(parse(target.read_bytes()).keys) == 1
