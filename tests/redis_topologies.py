"""Redis deployments of several processes: a cluster, and a master with a sentinel."""

import gc
import time
import warnings
from pathlib import Path
from typing import Any

import redis

from deploy.local.__main__ import STATE
from deploy.local.redis import choose
from tests import processes
from tests.ports import reserve_port


class Node:
    """One redis-server process on loopback that can be stopped and restarted."""

    def __init__(self, folder: Path, *options: str, config: Path | None = None) -> None:
        self.port = reserve_port()
        folder.mkdir(parents=True, exist_ok=True)
        words = [*choose(STATE, "").command, *([str(config)] if config else [])]
        words += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._words = [*words, "--save", "", "--appendonly", "yes", *options]
        self._log = folder / "log"
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = processes.start(self._words, output=log, errors=log)
        self.wait_for(lambda client: client.ping())

    def client(self) -> Any:
        return redis.Redis(port=self.port, socket_timeout=5)

    def wait_for(self, condition: Any, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                with self.client() as client:
                    if condition(client):
                        return
            except redis.RedisError:
                pass
            assert time.monotonic() < end, self._log.read_text()[-2000:]
            time.sleep(0.05)

    def kill(self) -> None:
        processes.kill(self._process)


class _Master(Node):
    def __init__(self, folder: Path, *options: str) -> None:
        # The default is the port plus 10,000, which may exceed the largest port.
        self.bus = reserve_port()
        super().__init__(folder, *options, "--cluster-port", str(self.bus))


class Cluster:
    """Three masters without replicas."""

    def __init__(self, folder: Path, *, full_coverage: bool = False) -> None:
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
        options += ["--cluster-require-full-coverage", "yes" if full_coverage else "no"]
        self.nodes = [_Master(folder / str(number), *options) for number in range(3)]
        bounds = [0, 5461, 10923, 16384]
        for node, first, end in zip(self.nodes, bounds, bounds[1:], strict=False):
            with node.client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
                if node is not self.nodes[0]:
                    first_node = self.nodes[0]
                    where = ("127.0.0.1", first_node.port, first_node.bus)
                    client.execute_command("CLUSTER MEET", *where)
        for node in self.nodes:
            node.wait_for(_is_whole)
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self.url = f"redis+cluster://{hosts}"

    def stop(self) -> None:
        """Stop the nodes, and silence warnings about connections that redis-py leaves open."""
        for node in self.nodes:
            node.kill()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def _is_whole(client: Any) -> bool:
    info = client.cluster("INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3")


class Sentinels:
    """A master, its replica, and a sentinel that promotes it within a second or two."""

    def __init__(self, folder: Path) -> None:
        self.master = Node(folder / "master")
        self.replica = Node(folder / "replica", "--replicaof", "127.0.0.1", str(self.master.port))
        self.replica.wait_for(lambda client: client.info()["master_link_status"] == "up")
        config = folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor main 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 3000\n"
        )
        self._sentinel = _Sentinel(folder / "sentinel", config)
        self._sentinel.wait_for(
            lambda client: len(client.execute_command("SENTINEL REPLICAS", "main")) == 1
        )
        self.url = f"redis+sentinel://127.0.0.1:{self._sentinel.port}/main"

    def stop(self) -> None:
        for node in (self._sentinel, self.master, self.replica):
            node.kill()


class _Sentinel(Node):
    def __init__(self, folder: Path, config: Path) -> None:
        self.port = reserve_port()
        folder.mkdir(parents=True)
        words = [*choose(STATE, "").command, str(config), "--sentinel"]
        self._words = [*words, "--port", str(self.port), "--bind", "127.0.0.1"]
        self._log = folder / "log"
        self.start()
