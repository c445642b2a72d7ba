"""Compiles a converted model and computes a text, in a process that may crash."""

import json
import sys

import numpy as np


def main(file: str, options: str) -> None:
    """Compile and compute, or end with an error."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino  # noqa: PLC0415 - the telemetry must be turned off before

    compiled = openvino.Core().compile_model(file, "CPU", json.loads(options))
    compiled([np.ones((1, 4), np.int64)] * 2)


if __name__ == "__main__":
    main(*sys.argv[1:])
