"""Tries the runtimes that could compute a text model, and chooses one: the fastest that agrees.

The sample that ships with the project is embedded by each, and compared with float32 torch. What
was seen is kept for the next start.
"""

import dataclasses
import functools
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.embedder.cpu import available_cores
from services.embedder.models.cuda_graphs import CudaGraphRuntime
from services.embedder.models.model import RuntimeTrial
from services.embedder.models.openvino import OpenVinoRuntime, convert
from services.embedder.models.runtimes import Runtime, TokenIds, TorchRuntime

log = logging.getLogger(__name__)

Rows = NDArray[np.float32]
_SAMPLE = Path(__file__).with_name("sample.json")
# What ``auto`` asks of a runtime: the mean cosine to float32 torch, and as many answers found.
MEAN_COSINE = 0.99
# What ``exact`` asks: the least cosine.
LEAST_COSINE = 0.9999
# What both ask: the least cosine between a text alone and in a batch.
INDEPENDENCE = 0.9995
# Counted up when a runtime comes to compute other vectors, or at another speed.
VERSION = 3
_CPUINFO = Path("/proc/cpuinfo")
_ALONE = 12
_ROUNDS = 2


@dataclass(frozen=True)
class Sample:
    """Texts as token ids: questions, then in the same order the passages that answer them."""

    texts: Sequence[TokenIds]

    @classmethod
    def bundled(cls, tokenize: Callable[[str], TokenIds]) -> "Sample":
        """Read the sample that ships with the project."""
        pairs = json.loads(_SAMPLE.read_text("utf-8"))
        return cls([tokenize(pair[side]) for side in (0, 1) for pair in pairs])

    def found(self, rows: Rows) -> int:
        """Count the questions whose own passage is the nearest."""
        half = len(rows) // 2
        nearest = (rows[:half] @ rows[half:].T).argmax(1)
        return int((nearest == np.arange(half)).sum())


@dataclass(frozen=True)
class RuntimeOptions:
    """What may compute a text model.

    Attributes:
        allowed: ``auto``, ``exact`` or ``torch``.
        exports: folder in which converted models are kept.
    """

    allowed: str = "auto"
    exports: Path = Path("~/.cache/memetwin")


Makers = Mapping[tuple[str, str], Callable[[], Runtime]]


def makers(model: Any, pad: int, digest: str, runtimes: RuntimeOptions) -> Makers:
    """Return what may compute a model here, by name and dtype; float32 torch comes first.

    Args:
        model: a sentence-transformers model for text.
        pad: the token that fills short rows.
        digest: of the model; its conversion is kept under it.
        runtimes: what is allowed.
    """
    device, exports = str(model.device), runtimes.exports.expanduser()
    found: dict[tuple[str, str], Callable[[], Runtime]] = {
        ("torch", "float32"): lambda: TorchRuntime(model, pad)
    }
    half = _fast_in_half(device)
    if runtimes.allowed == "torch" or device != "cpu":
        if half:
            found["torch", "bfloat16"] = lambda: TorchRuntime(model, pad, half=True)
        if device.startswith("cuda") and runtimes.allowed != "torch":
            for dtype in (torch.float16, torch.bfloat16)[: 1 + half]:
                found[CudaGraphRuntime.name, str(dtype).removeprefix("torch.")] = functools.partial(
                    CudaGraphRuntime, model, pad, dtype
                )
        return found
    converted = functools.cache(lambda: convert(model, exports, digest))
    found["openvino", "float32"] = lambda: OpenVinoRuntime(converted(), pad)
    if half:
        found["openvino", "bfloat16"] = lambda: OpenVinoRuntime(
            converted(), pad, "bfloat16", half=True
        )
    found["openvino", "int8"] = lambda: OpenVinoRuntime(converted(), pad, "int8", half=half)
    return found


def choose(
    ways: Makers, sample: Sample, *, exact: bool, record: Path
) -> tuple[Runtime, RuntimeTrial, list[RuntimeTrial]]:
    """Return the fastest runtime that agrees with the first, its trial, and all trials.

    Args:
        ways: how to make the runtimes, the reference first; one that fails is left out.
        sample: what they are tried with.
        exact: ask for LEAST_COSINE instead of MEAN_COSINE.
        record: file of what earlier trials on this machine have shown.
    """
    key = _machine(ways)
    tried = _recall(record, key) or _try_all(ways, sample)
    reference = tried[0]
    eligible = [trial for trial in tried[1:] if is_eligible(trial, reference, exact)]
    for trial in sorted(eligible, key=lambda one: -one.texts_per_second):
        if trial.texts_per_second < reference.texts_per_second:
            break
        try:
            runtime = ways[trial.runtime, trial.dtype]()
        except Exception:
            log.exception("a runtime failed", extra={"runtime": trial.runtime})
            continue
        _remember(record, key, tried)
        return runtime, trial, tried
    return ways[reference.runtime, reference.dtype](), reference, tried


def is_eligible(trial: RuntimeTrial, reference: RuntimeTrial, exact: bool) -> bool:
    """Say whether a runtime's vectors are good enough."""
    agrees = (
        trial.min_cosine >= LEAST_COSINE
        if exact
        else trial.mean_cosine >= MEAN_COSINE and trial.top1_hits >= reference.top1_hits
    )
    return agrees and trial.batch_invariance >= INDEPENDENCE


def _try_all(ways: Makers, sample: Sample) -> list[RuntimeTrial]:
    makes = iter(ways.values())
    reference = next(makes)()
    expected = _rows(reference, sample.texts)
    tried = [_try(reference, sample, expected, expected)]
    for make in makes:
        try:
            runtime = make()
            tried.append(_try(runtime, sample, _rows(runtime, sample.texts), expected))
        except Exception:
            log.exception("a runtime failed and is left out")
    return tried


def _try(runtime: Runtime, sample: Sample, rows: Rows, expected: Rows) -> RuntimeTrial:
    some = sample.texts[-_ALONE:]
    alone = _unit(np.vstack([runtime.compute([text]) for text in some]))
    together = _unit(runtime.compute(some))
    cosines = (rows * expected).sum(1)
    return RuntimeTrial(
        runtime=runtime.name,
        dtype=runtime.dtype,
        mean_cosine=float(cosines.mean()),
        min_cosine=float(cosines.min()),
        batch_invariance=float(
            min((alone * one).sum(1).min() for one in (together, rows[-_ALONE:]))
        ),
        top1_hits=sample.found(rows),
        texts_per_second=_speed(runtime, sample.texts),
    )


def _rows(runtime: Runtime, texts: Sequence[TokenIds]) -> Rows:
    """Return vectors in the order of their texts, of length 1, computed as calls are."""
    batches = list(_batches(texts, runtime.batch_tokens))
    with ThreadPoolExecutor(runtime.workers) as pool:
        parts = pool.map(lambda batch: runtime.compute([texts[n] for n in batch]), batches)
        rows = np.vstack(list(parts))
    return _unit(rows[np.argsort(np.concatenate(batches))])


def _speed(runtime: Runtime, texts: Sequence[TokenIds]) -> float:
    """Return the texts per second with all workers busy; the best of some rounds."""
    some = texts[::3]  # a third of them tells it, and whoever starts it waits
    batches = [[some[n] for n in batch] for batch in _batches(some, runtime.batch_tokens)]
    times, batches = [], batches * runtime.workers
    with ThreadPoolExecutor(runtime.workers) as pool:
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            list(pool.map(runtime.compute, batches))
            times.append(time.perf_counter() - started)
    return len(some) * runtime.workers / min(times)


def _batches(texts: Sequence[TokenIds], most: int) -> Iterator[list[int]]:
    """Cut texts, by number, into batches of like length, of at most so many tokens or one text."""
    batch: list[int] = []
    for number in sorted(range(len(texts)), key=lambda n: len(texts[n])):
        if batch and len(texts[number]) * (len(batch) + 1) > most:
            yield batch
            batch = []
        batch.append(number)
    yield batch


def _unit(rows: Rows) -> Rows:
    unit: Rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _fast_in_half(device: str) -> bool:
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    # Where a processor only imitates it, it is ruinous.
    return device == "cpu" and _CPUINFO.is_file() and "avx512_bf16" in _CPUINFO.read_text()


def _machine(ways: Makers) -> str:
    """Name what trials depend on, beside the model."""
    parts = [
        VERSION,
        platform.machine(),
        platform.processor(),
        available_cores(),
        torch.__version__,
        *ways,
    ]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return " ".join(map(str, [*parts, _processor()]))


def _processor() -> str:
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.is_file() else []
    names = [line for line in lines if line.startswith(("model name", "flags"))]
    return hashlib.sha256("".join(names[:2]).encode()).hexdigest()[:16]


def _recall(record: Path, key: str) -> list[RuntimeTrial]:
    try:
        return [RuntimeTrial(**trial) for trial in json.loads(record.read_text())[key]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _remember(record: Path, key: str, tried: Sequence[RuntimeTrial]) -> None:
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({key: list(map(dataclasses.asdict, tried))}, indent=1)
        beside = record.with_suffix(f".{os.getpid()}")
        beside.write_text(text)
        beside.replace(record)
    except OSError as error:
        log.warning("trials cannot be kept: %s", error)
