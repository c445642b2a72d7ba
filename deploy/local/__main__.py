"""Runs the stack on this machine: ``python -m deploy.local up | down | status | redis``."""

import contextlib
import functools
import http.client
import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from deploy.local import redis
from deploy.local.processes import CannotStart, Processes, require_free
from deploy.local.redis import NoRedis, RedisChoice
from services.probe import is_serving
from services.settings import CommonSettings, SettingError, TlsFiles, from_env, host_port

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".memetwin"
READY_TIMEOUT = 180.0
REDIS_TIMEOUT = 30.0
ANNOUNCE_DELAY = 2.0
# For each service: the setting of its listen address, the default, and the setting for its clients.
SERVICES = {
    "embedder": ("MEMETWIN_EMBEDDER_LISTEN", "127.0.0.1:50051", "MEMETWIN_EMBEDDER_ADDRESS"),
    "search": ("MEMETWIN_SEARCH_LISTEN", "127.0.0.1:50052", "MEMETWIN_SEARCH_ADDRESS"),
    "gateway": ("MEMETWIN_GATEWAY_LISTEN", "127.0.0.1:50050", "MEMETWIN_GATEWAY_ADDRESS"),
}
HTTP = ("MEMETWIN_HTTP_LISTEN", "127.0.0.1:8080")


class Stack:
    """Redis and the three services."""

    def __init__(self, state: Path = STATE) -> None:
        self._state = state
        self._processes = Processes(state)

    def up(self) -> None:
        """Start what is not running, wait until everything is ready, and print the addresses."""
        settings, files = _settings(), _tls_files()
        with self._stopped_on_failure() as started:
            choice = self.start_redis(started)
            settings["MEMETWIN_REDIS_URL"] = choice.url
            new = [name for name in SERVICES if self._must_start(name, settings)]
            for name in new:
                self._require_ports(name, settings)
            for name in new:
                command = [sys.executable, "-m", f"services.{name}"]
                self._processes.start(name, command, settings, ROOT)
                started.append(name)
            for name in SERVICES:
                address = settings[SERVICES[name][2]]
                self._wait(name, functools.partial(is_serving, address, "", files))
            self._wait("gateway", lambda: _is_http_ready(settings[HTTP[0]], files))
        self._print_addresses(choice, settings, already_running=not new)

    def down(self) -> None:
        """Stop the services and then Redis."""
        stopped = [name for name in (*reversed(SERVICES), "redis") if self._processes.stop(name)]
        print(f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running.")

    def status(self) -> None:
        """Print which processes are running."""
        for name in ("redis", *SERVICES):
            process = self._processes.running(name)
            print(f"{name:9} {f'running, process {process.pid}' if process else 'not running'}")

    def start_redis(self, started: list[str]) -> RedisChoice:
        """Choose a Redis, start it if we manage it, and print the choice with its warnings.

        The name of a process that was started is added to ``started``.
        """
        choice = redis.choose(self._state, redis.url_from_environment())
        if choice.is_managed:
            if self._processes.running("redis") is None:
                host, port = host_port(choice.url.rpartition("/")[2])
                require_free(host, port, "MEMETWIN_REDIS_URL")
                command = redis.command_line(choice, self._state)
                self._processes.start("redis", command, {}, ROOT)
                started.append("redis")
            self._wait("redis", lambda: _is_reachable(choice), REDIS_TIMEOUT)
            choice = redis.inspect_running(choice, self._state)
        _log(choice.describe())
        for warning in choice.warnings:
            _log(f"  warning: {warning}")
        return choice

    def _must_start(self, name: str, settings: dict[str, str]) -> bool:
        """Return whether a service still has to be started.

        Raises:
            CannotStart: it is running with other settings.
        """
        process = self._processes.running(name)
        if process is None:
            return True
        different = [key for key, value in settings.items() if process.settings.get(key) != value]
        if different:
            raise CannotStart(
                f"{name} is already running with another value of {', '.join(different)}."
                " Run make down first."
            )
        return False

    def _require_ports(self, name: str, settings: dict[str, str]) -> None:
        setting = SERVICES[name][0]
        require_free(*host_port(settings[setting]), setting)
        if name == "gateway":
            require_free(*host_port(settings[HTTP[0]]), HTTP[0])

    def _wait(self, name: str, ready: Callable[[], bool], timeout: float = READY_TIMEOUT) -> None:
        started = time.monotonic()
        announced = False
        while not ready():
            self._processes.check(name)
            waited = time.monotonic() - started
            if waited > timeout:
                raise CannotStart(
                    f"{name} is not ready after {timeout:.0f} s. The end of"
                    f" {self._processes.log(name)}:\n{self._processes.tail(name)}"
                )
            if waited > ANNOUNCE_DELAY and not announced:
                _log(f"waiting for {name} …")
                announced = True
            time.sleep(0.1)

    @contextmanager
    def _stopped_on_failure(self) -> Iterator[list[str]]:
        started: list[str] = []
        try:
            yield started
        except BaseException:
            for name in reversed(started):
                self._processes.stop(name)
            raise

    def _print_addresses(
        self, choice: RedisChoice, settings: dict[str, str], *, already_running: bool
    ) -> None:
        print("The stack is already running:" if already_running else "The stack is ready:")
        host, port = host_port(settings[HTTP[0]])
        scheme = "https" if _tls_files().cert else "http"
        print(f"  page      {scheme}://{host}:{port}/")
        for name in ("gateway", "embedder", "search"):
            print(f"  {name:9} {settings[SERVICES[name][2]]} (gRPC)")
        print(f"  redis     {choice.url}")
        print(f"  logs      {self._state / 'logs'}")
        print("Stop it with: make down")


def _settings() -> dict[str, str]:
    """Return the addresses of the services from the environment, or the defaults."""
    settings = {}
    for setting, default, dial in SERVICES.values():
        host, port = host_port(os.environ.get(setting) or default)
        settings[setting] = f"{host}:{port}"
        settings[dial] = os.environ.get(dial) or f"{_dialable(host)}:{port}"
    host, port = host_port(os.environ.get(HTTP[0]) or HTTP[1])
    return settings | {HTTP[0]: f"{host}:{port}"}


def _dialable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "[::]", "::") else host  # noqa: S104


def _is_reachable(choice: RedisChoice) -> bool:
    try:
        redis.inspect(choice.kind, choice.url)
    except NoRedis:
        return False
    return True


def _tls_files() -> TlsFiles:
    """Return the files of TLS.

    Raises:
        CannotStart: the services would use TLS and could not dial each other.
    """
    files = from_env(CommonSettings, os.environ).tls
    if files.cert and not files.ca:
        raise CannotStart("Set MEMETWIN_TLS_CA too, so that the services can dial each other.")
    return files


def _is_http_ready(listen: str, files: TlsFiles) -> bool:
    host, port = host_port(listen)
    connection = http.client.HTTPConnection(_dialable(host), port, timeout=2)
    if files.cert:
        context = ssl.create_default_context(cafile=files.ca)
        context.load_cert_chain(files.cert, files.key)
        connection = http.client.HTTPSConnection(_dialable(host), port, timeout=2, context=context)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Run the command named by the first argument."""
    stack = Stack()
    command = sys.argv[1] if len(sys.argv) == 2 else ""  # noqa: PLR2004
    try:
        if command == "redis":
            print(stack.start_redis([]).url)
        elif command in ("up", "down", "status"):
            getattr(stack, command)()
        else:
            _log("usage: python -m deploy.local up | down | status | redis")
            return 2
    except (CannotStart, NoRedis, SettingError) as error:
        _log(str(error))
        return 1
    except KeyboardInterrupt:
        _log("Interrupted. All processes that were started have been stopped.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
