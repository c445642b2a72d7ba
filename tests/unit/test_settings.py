from dataclasses import dataclass

import pytest

from services.settings import SettingError, from_env, host_port, setting


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
    for bad in ("here", "x:99999", ""):
        with pytest.raises(SettingError):
            host_port(bad)
