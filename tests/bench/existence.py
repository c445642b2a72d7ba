"""Whether the time of a reply reveals that another tenant has what a caller names."""

import tempfile
import time
from pathlib import Path
from statistics import median

from tests.attacks.contract import call, methods, name_of
from tests.attacks.requests import variants
from tests.attacks.world import ATTACKER, World
from tests.bench.own_redis import redis_url
from tests.language_model import running

CALLS, WARM = 400, 50
READS = (
    *("CacheService/LookupEntry", "CacheService/GetEntry", "CacheService/ListEntries"),
    *("RagService/GetDocument", "RagService/ListDocuments", "RagService/Retrieve"),
    *("TwinService/GetPicture", "SearchService/GetCollection", "SearchService/GetDocuments"),
)


def compare(world: World, rpc: str) -> tuple[float, float]:
    """Return the median seconds for names that another tenant has, and for names that nobody has.

    The calls alternate, so that both see the same load.
    """
    [method] = [one for one in methods() if name_of(one) == rpc]
    requests = [variants(method, names)[0] for names in (world.victim, world.ghost)]
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(WARM + CALLS):
        for one, seconds in zip(requests, times, strict=True):
            started = time.perf_counter()
            call(world.stack.gateway, method, one, ATTACKER)
            if number >= WARM:
                seconds.append(time.perf_counter() - started)
    exists, missing = map(median, times)
    return exists, missing


def main() -> None:
    print("| rpc | exists, p50 ms | does not, p50 ms | difference |\n|---|---|---|---|")
    with redis_url(None) as url, tempfile.TemporaryDirectory() as folder, running() as model:
        world = World(url, "bench-existence:", Path(folder), model.url)
        try:
            for rpc in READS:
                exists, missing = (1e3 * one for one in compare(world, rpc))
                difference = f"{exists - missing:+.3f} ms, {exists / missing - 1:+.1%}"
                print(f"| {rpc} | {exists:.2f} | {missing:.2f} | {difference} |", flush=True)
        finally:
            world.close()


if __name__ == "__main__":
    main()
