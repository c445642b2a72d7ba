import dataclasses
from dataclasses import dataclass

import pytest

from services.settings import (
    CommonSettings,
    SettingError,
    from_env,
    host_port,
    secret_values,
    setting,
)
from tools.docs import SERVICES


@dataclass(frozen=True)
class Some:
    name: str = setting("X_NAME", "default", "A name.")
    count: int = setting("X_COUNT", 3, "A number.")
    share: float = setting("X_SHARE", 0.5, "A share.")
    on: bool = setting("X_ON", False, "A switch.")
    limit: float | None = setting("X_LIMIT", None, "A limit.")


def test_values_are_read_by_type_and_empty_means_unset() -> None:
    assert from_env(Some, {}) == Some()
    read = from_env(
        Some, {"X_NAME": "", "X_COUNT": "7", "X_SHARE": ".25", "X_ON": "yes", "X_LIMIT": "0"}
    )
    assert read == Some("default", 7, 0.25, True, 0.0)


@pytest.mark.parametrize("environ", [{"X_COUNT": "many"}, {"X_ON": "perhaps"}, {"X_LIMIT": "no"}])
def test_a_wrong_value_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(SettingError, match=next(iter(environ))):
        from_env(Some, environ)


def test_addresses() -> None:
    assert host_port("0.0.0.0:80") == ("0.0.0.0", 80)
    assert host_port("8080") == ("127.0.0.1", 8080)
    for bad in ("here", "x:99999", "x:²", ""):
        with pytest.raises(SettingError):
            host_port(bad)


@dataclass(frozen=True)
class Guarded:
    name: str = setting("X_NAME", "open", "A name.")
    key: str = setting("X_KEY", "", "A key.", secret=True)
    url: str = setting("X_URL", "", "A URL.", secret=True)


def test_secrets_are_not_represented() -> None:
    settings = Guarded(key="k3y", url="redis://me:p%40ss@host:1/2")
    assert repr(settings) == "Guarded(name='open')"
    assert secret_values(settings) == ["p%40ss", "p@ss", "k3y"]


@pytest.mark.parametrize("url", ["", "redis://host:1", "redis://me@host", "unix:///run/r.sock"])
def test_a_url_without_a_password_has_no_secret(url: str) -> None:
    assert secret_values(Guarded(url=url)) == []


def test_a_cluster_has_one_password() -> None:
    assert secret_values(Guarded(url="redis+cluster://:pass@a:1,b:2/x@y")) == ["pass"]


@pytest.mark.parametrize("kind", SERVICES.values())
def test_every_setting_that_may_contain_a_secret_is_marked(kind: type[CommonSettings]) -> None:
    for field in dataclasses.fields(kind):
        name = field.metadata["env"]
        is_file = field.metadata["doc"].startswith("File ")
        if name.endswith(("_KEY", "_PASSWORD", "_SECRET", "_TOKEN", "_URL")) and not is_file:
            assert field.metadata["secret"], f"declare {name} with secret=True"
