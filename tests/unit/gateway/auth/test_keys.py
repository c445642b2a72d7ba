import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.errors import Failure, PermissionDenied, Unauthenticated
from services.gateway.alarms import Alarms
from services.gateway.auth import keys as keys_module
from services.gateway.auth.caller import current_key_name, current_tenant
from services.gateway.auth.keys import ApiKeys
from services.grpc_server import Server, ServiceSpec
from services.key_file import ADMIN, ALL_BUT_ADMIN, Key, KeyFile, parse, sha256
from services.settings import SettingError

DIGEST = sha256("secret")
LOOKUP = "/memetwin.gateway.v1.CacheService/LookupEntry"


def row(key: str = "secret", **fields: Any) -> dict[str, Any]:
    return {"sha256": sha256(key), "tenant": "acme", **fields}


def write(file: Path, *rows: Any) -> None:
    new = file.with_suffix(".new")
    new.write_text(json.dumps(rows))
    new.replace(file)


def load(folder: Path, *rows: Any) -> ApiKeys:
    write(folder / "keys.json", *rows)
    return ApiKeys.load(str(folder / "keys.json"))


def refusal(keys: ApiKeys, right: str = "chat:write", header: str = "Bearer secret") -> str:
    """Return the reason for which a call is refused; empty if it is not."""
    try:
        keys.authenticate(right, header)
    except Failure as failure:
        return failure.reason
    return ""


async def test_a_call_runs_as_the_owner_of_its_key(tmp_path: Path) -> None:
    keys = load(tmp_path, row())
    call = keys.authenticate("chat:write", "bearer  secret ")
    assert call is not None
    assert current_tenant("") == "acme"  # limits of the server need it before the call begins
    async with call:
        assert (current_tenant(""), current_key_name()) == ("acme", DIGEST[:8])


def test_a_key_without_rights_has_all_but_admin(tmp_path: Path) -> None:
    keys = load(tmp_path, row())
    assert not any(refusal(keys, right) for right in ALL_BUT_ADMIN)
    with pytest.raises(PermissionDenied) as caught:
        keys.authenticate(ADMIN, "Bearer secret")
    assert (caught.value.reason, caught.value.metadata) == ("RIGHT_MISSING", {"right": ADMIN})


def test_a_key_with_rights_has_those(tmp_path: Path) -> None:
    keys = load(tmp_path, row(rights=["chat", "rag:read", "admin"]))
    granted = {right for right in ALL_BUT_ADMIN | {ADMIN} if not refusal(keys, right)}
    assert granted == {"chat:read", "chat:write", "rag:read", "admin"}


@pytest.mark.parametrize("header", ["", "secret", "Basic secret", "Bearer other", "Bearer "])
def test_a_call_without_a_known_key_is_refused(tmp_path: Path, header: str) -> None:
    keys = load(tmp_path, row(rights=[]))
    for method in (LOOKUP, "", "/memetwin.gateway.v1.CacheService/Unknown"):
        with pytest.raises(Unauthenticated):
            keys.authenticate_rpc(method, header)
    for path in ("/v1/models", "/v1/nothing"):
        with pytest.raises(Unauthenticated):
            keys.authenticate_route("GET", path, header)


def test_several_keys_of_a_tenant_are_valid_at_once(tmp_path: Path) -> None:
    keys = load(tmp_path, row("old"), row("new"))
    assert refusal(keys, header="Bearer old") == refusal(keys, header="Bearer new") == ""


def test_a_key_expires() -> None:
    now = 99.0
    file = KeyFile({DIGEST: Key(DIGEST, "acme", not_after=100.0)})
    keys = ApiKeys(file, clock=lambda: now)
    assert refusal(keys) == ""
    now = 100.0
    assert refusal(keys) == "API_KEY_EXPIRED"


def test_without_a_file_nobody_is_refused() -> None:
    keys = ApiKeys.load("")
    assert not keys.are_required
    assert keys.authenticate_rpc(LOOKUP, "") is None
    assert keys.authenticate_route("GET", "/v1/models", "") is None


def test_a_file_without_keys_refuses_everybody(tmp_path: Path) -> None:
    assert refusal(load(tmp_path)) == "UNKNOWN_API_KEY"


@pytest.mark.parametrize("text", ["", "{", '[{"tenant": "acme"}]'])
def test_an_invalid_file_stops_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(text)
    with pytest.raises(SettingError, match="MEMETWIN_API_KEYS_FILE"):
        ApiKeys.load(str(file))


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="MEMETWIN_API_KEYS_FILE"):
        ApiKeys.load(str(tmp_path / "none"))


@contextlib.asynccontextmanager
async def watching(keys: ApiKeys) -> AsyncIterator[None]:
    task = asyncio.create_task(keys.watch())
    try:
        yield
    finally:
        task.cancel()


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0)


@pytest.fixture
def polled_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "POLL_PERIOD", 0.01)


@pytest.mark.usefixtures("polled_often")
async def test_a_changed_file_is_read(tmp_path: Path) -> None:
    keys = load(tmp_path, row())
    async with watching(keys):
        write(tmp_path / "keys.json", row("other"))
        await until(lambda: refusal(keys) == "UNKNOWN_API_KEY")
        write(tmp_path / "keys.json", row())
        await until(lambda: refusal(keys) == "")


async def test_a_reload_reads_the_file_at_once(tmp_path: Path) -> None:
    keys = load(tmp_path, row())
    async with watching(keys):
        write(tmp_path / "keys.json", row("other"))
        keys.reload()
        await until(lambda: refusal(keys) == "UNKNOWN_API_KEY")


@pytest.mark.usefixtures("polled_often")
@pytest.mark.parametrize("broken", ["[", '[{"tenant": "acme"}]', None])
async def test_a_broken_file_keeps_the_earlier_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str | None
) -> None:
    file = tmp_path / "keys.json"
    write(file, row())
    keys = ApiKeys.load(str(file), alarms := Alarms())
    async with watching(keys):
        if broken is None:
            file.unlink()
        else:
            file.write_text(broken)
        await until(alarms.active)
        assert refusal(keys) == ""
        assert logging.ERROR in [record.levelno for record in caplog.records]
        write(file, row("other"))
        await until(lambda: refusal(keys) == "UNKNOWN_API_KEY")
        assert not alarms.active()


@pytest.mark.usefixtures("polled_often")
async def test_the_calls_of_a_removed_or_expired_key_end_and_no_others(tmp_path: Path) -> None:
    now = 0.0
    file = tmp_path / "keys.json"
    rows = [row("expiring", not_after="1970-01-01T01:00:00Z"), row("kept")]
    write(file, row("revoked"), *rows)
    keys = ApiKeys(parse(file.read_text()), file, clock=lambda: now)

    async def run(key: str) -> None:
        call = keys.authenticate("chat:write", f"Bearer {key}")
        assert call is not None
        async with call:
            await asyncio.Event().wait()

    tasks = {key: asyncio.create_task(run(key)) for key in ("revoked", "expiring", "kept")}
    async with watching(keys), asyncio.timeout(30):
        write(file, *rows)
        with pytest.raises(Unauthenticated):
            await tasks["revoked"]
        assert not tasks["expiring"].done()
        now = 3600.0
        with pytest.raises(Unauthenticated):
            await tasks["expiring"]
    assert not tasks["kept"].done()
    tasks["kept"].cancel()


async def test_the_limits_of_a_grpc_server_know_the_tenant(tmp_path: Path) -> None:
    keys = load(tmp_path, row())
    owners: list[str] = []

    def owner() -> str:
        owners.append(current_tenant(""))
        return owners[-1]

    async def echo(request: bytes, context: Any) -> bytes:
        return request

    async def ready() -> bool:
        return True

    def register(server: Any) -> None:
        method: Any = grpc.unary_unary_rpc_method_handler(echo)
        server.add_registered_method_handlers("memetwin.Test", {"Call": method})

    def authenticate(method: str, authorization: str) -> Any:
        return keys.authenticate("chat:read", authorization)

    spec = ServiceSpec("memetwin.Test", register, ready, authenticate, owner=owner)
    async with (
        Server([spec], "127.0.0.1:0") as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        call: Any = channel.unary_unary("/memetwin.Test/Call")
        metadata = [("authorization", "Bearer secret")]
        assert await call(b"hello", metadata=metadata, timeout=10) == b"hello"
    assert owners == ["acme"]
