import logging
import time
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.errors import Unavailable
from services.gateway.alarms import Alarms
from services.gateway.shared_secret import STALE_SECONDS, SharedSecret, configured_secret
from services.settings import SettingError
from tests.fakes.redis import FakeRedis

ONE, TWO = "01" * 32, "02" * 32


def stored(redis: FakeRedis) -> SharedSecret:
    return SharedSecret(redis, "p:")  # type: ignore[arg-type]


def configured(redis: FakeRedis, value: str, alarms: Alarms | None = None) -> SharedSecret:
    return SharedSecret(redis, "p:", configured_secret(value, ""), alarms)  # type: ignore[arg-type]


def reasons(alarms: Alarms) -> list[str]:
    return [one["reason"] for one in alarms.active()]


async def test_replicas_share_the_first_ones_secret() -> None:
    redis = FakeRedis()
    one, other = stored(redis), stored(redis)
    assert await one.read() == await other.read() == redis.values["p:gateway:secret"]
    assert len(await one.read()) == 32
    assert await stored(FakeRedis()).read() != await one.read()


async def test_the_secret_survives_an_outage_of_redis() -> None:
    redis = FakeRedis()
    one = stored(redis)
    secret = await one.read()
    redis.failure = RedisConnectionError()
    await one.check()
    assert await one.read() == secret
    with pytest.raises(Unavailable):
        await stored(redis).read()


async def test_replicas_agree_after_redis_has_lost_its_data() -> None:
    redis = FakeRedis()
    running, other = stored(redis), stored(redis)
    before = await running.read()
    await other.read()
    redis.values.clear()
    await running.check()
    assert await running.read() == before  # restores its secret
    redis.values.clear()
    created = await stored(redis).read()  # a restarted replica comes first
    await running.check()
    await other.check()
    assert await running.read() == await other.read() == created != before


async def test_a_suspended_process_checks_before_it_uses_the_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis, now = FakeRedis(), 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    one = stored(redis)
    before = await one.read()
    redis.values.clear()
    created = await stored(redis).read()
    assert await one.read() == before
    now += STALE_SECONDS + 1
    assert await one.read() == created


async def test_a_configured_secret_needs_no_redis_and_is_not_stored() -> None:
    redis = FakeRedis()
    redis.failure = RedisConnectionError()
    one = configured(redis, ONE)
    assert (await one.read()).hex() == ONE
    redis.failure = None
    await one.check()
    assert "p:gateway:secret" not in redis.values
    assert ONE.encode() not in b"".join(redis.values.values())


async def test_a_changed_secret_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    redis, alarms = FakeRedis(), Alarms()
    await stored(redis).read()
    with caplog.at_level(logging.WARNING):
        await configured(redis, ONE, alarms).read()
        await configured(redis, ONE, alarms).read()
    assert ["the secret has changed" in record.message for record in caplog.records] == [True]
    assert not alarms.active()


async def test_different_configured_secrets_raise_an_alarm_until_they_agree(
    tmp_path: Path,
) -> None:
    redis, alarms = FakeRedis(), Alarms()
    file = tmp_path / "secret"
    file.write_text(ONE + "\n")
    one = SharedSecret(redis, "p:", configured_secret("", str(file)), alarms)  # type: ignore[arg-type]
    await one.check()
    await configured(redis, TWO).check()
    await one.check()
    assert reasons(alarms) == ["SECRET_DIFFERS"]
    file.write_text(TWO)
    await one.check()
    assert (await one.read()).hex() == TWO
    assert not alarms.active()


async def test_an_unreadable_file_keeps_the_secret(tmp_path: Path) -> None:
    redis, alarms = FakeRedis(), Alarms()
    file = tmp_path / "secret"
    file.write_text(ONE)
    one = SharedSecret(redis, "p:", configured_secret("", str(file)), alarms)  # type: ignore[arg-type]
    await one.check()
    for content in ("", "short", None):
        file.unlink() if content is None else file.write_text(content)
        await one.check()
        assert (await one.read()).hex() == ONE
        assert reasons(alarms) == ["SECRET_UNREADABLE"]
    file.write_text(ONE)
    await one.check()
    assert not alarms.active()


@pytest.mark.parametrize(
    ("value", "file"),
    [(ONE, "/some/file"), ("", "/no/such/file"), ("correct horse", ""), ("ab", "")],
)
def test_a_bad_secret_is_refused_without_quoting_it(value: str, file: str) -> None:
    with pytest.raises(SettingError) as caught:
        configured_secret(value, file)
    assert len(value) < 5 or value not in str(caught.value)
    assert "MEMETWIN_SECRET" in str(caught.value)


def test_nothing_is_configured_by_default() -> None:
    assert configured_secret("", "") is None
