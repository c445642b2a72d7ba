import contextvars
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from services.errors import PermissionDenied, Unauthenticated
from services.gateway.auth.caller import current_key_name, current_max_error_rate, current_tenant
from services.gateway.auth.keys import RIGHTS, ApiKeys
from services.settings import SettingError

T = TypeVar("T")
DIGEST = hashlib.sha256(b"secret").hexdigest()


def load(folder: Path, *rows: Any) -> ApiKeys:
    file = folder / "keys.json"
    file.write_text(json.dumps(rows))
    return ApiKeys.load(str(file))


def apart(run: Callable[[], T]) -> T:
    """Run something as a separate call."""
    return contextvars.copy_context().run(run)


def test_a_key_decides_the_tenant_the_name_and_the_bound(tmp_path: Path) -> None:
    keys = load(tmp_path, {"sha256": DIGEST.upper(), "tenant": "acme", "max_error_rate": 0.01})

    def call() -> tuple[str, str, str, float | None]:
        keys.authenticate("chat", "bearer  secret ")
        return (
            current_tenant(""),
            current_tenant("acme"),
            current_key_name(),
            (current_max_error_rate()),
        )

    assert apart(call) == ("acme", "acme", DIGEST[:8], 0.01)


def test_a_key_may_not_be_used_for_another_tenant(tmp_path: Path) -> None:
    keys = load(tmp_path, {"sha256": DIGEST, "tenant": "acme"})

    def call() -> None:
        keys.authenticate("chat", "Bearer secret")
        current_tenant("umbrella")

    with pytest.raises(PermissionDenied) as caught:
        apart(call)
    assert caught.value.reason == "OTHER_TENANT"


def test_a_key_without_rights_has_all_and_one_with_rights_has_those(tmp_path: Path) -> None:
    everything = load(tmp_path, {"sha256": DIGEST, "tenant": "acme"})
    for right in RIGHTS:
        apart(functools.partial(everything.authenticate, right, "Bearer secret"))
    chat = load(tmp_path, {"sha256": DIGEST, "tenant": "acme", "rights": ["chat"]})
    apart(lambda: chat.authenticate("chat", "Bearer secret"))
    with pytest.raises(PermissionDenied) as caught:
        apart(lambda: chat.authenticate("rag", "Bearer secret"))
    assert (caught.value.reason, caught.value.metadata) == ("RIGHT_MISSING", {"right": "rag"})


@pytest.mark.parametrize("header", ["", "secret", "Basic secret", "Bearer other", "Bearer "])
def test_a_call_without_a_known_key_is_refused(tmp_path: Path, header: str) -> None:
    keys = load(tmp_path, {"sha256": DIGEST, "tenant": "acme"})
    with pytest.raises(Unauthenticated):
        apart(lambda: keys.authenticate("chat", header))


def test_without_a_file_callers_name_their_tenant() -> None:
    keys = ApiKeys.load("")

    def call() -> tuple[str, str, float | None]:
        keys.authenticate("chat", "")
        return current_tenant("any"), current_key_name(), current_max_error_rate()

    assert apart(call) == ("any", "", None)


STRANGE_RIGHTS = '[{"sha256": "x", "tenant": "t", "rights": ["all"]}]'
STRANGE_RATE = '[{"sha256": "x", "tenant": "t", "max_error_rate": 1}]'


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '[{"sha256": "x"}]', "[1]", STRANGE_RIGHTS, STRANGE_RATE]
)
def test_an_invalid_file_stops_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(text)
    with pytest.raises(SettingError, match="MEMETWIN_API_KEYS_FILE"):
        ApiKeys.load(str(file))


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="MEMETWIN_API_KEYS_FILE"):
        ApiKeys.load(str(tmp_path / "none"))
