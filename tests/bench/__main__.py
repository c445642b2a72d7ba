"""Runs the named benchmarks, or all of them: ``make bench ARGS="search embedder"``."""

import subprocess
import sys

NAMES = (
    *("search", "recall", "filters", "hybrid", "rag", "abstention", "grounding"),
    *("embedder", "encodings", "overload"),
    *(
        "cache",
        "latency",
        "semantic_hits",
        "guarded",
        "existence",
        "loading",
        "verifier",
        "budget",
        "table",
        "hit_ratio",
        "strata",
        "tenants",
        "twins",
        "page",
    ),
    "largest_inputs",
)


def main() -> None:
    for name in sys.argv[1:] or NAMES:
        print(f"\n## {name}\n", flush=True)
        subprocess.run([sys.executable, "-m", f"tests.bench.{name}"], check=True)


if __name__ == "__main__":
    main()
