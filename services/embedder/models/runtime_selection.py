"""Selects the runtime that computes a text model: the fastest that agrees with float32 torch.

The trials of a start are saved, so that the next start on the same machine can skip them.
"""

import dataclasses
import functools
import hashlib
import json
import logging
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from services.embedder.cpu import available_cores
from services.embedder.models.cuda_graphs import CudaGraphRuntime
from services.embedder.models.model import RuntimeTrial
from services.embedder.models.openvino import (
    OpenVinoRuntime,
    convert,
    converted_file,
    uses_rotary_positions,
)
from services.embedder.models.runtime_trials import Sample, run_trials
from services.embedder.models.runtimes import Runtime, TorchRuntime

log = logging.getLogger(__name__)

# The mode ``auto`` requires this mean cosine to float32 torch, and at least as many top-1 hits.
MIN_MEAN_COSINE = 0.99
# The mode ``exact`` requires this cosine for every text.
MIN_COSINE = 0.9999
# Both modes require this cosine between each text's vectors, computed singly and in a batch.
MIN_BATCH_INVARIANCE = 0.9995
# Incremented when a runtime's vectors or its speed change.
VERSION = 3
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class RuntimeOptions:
    """Which runtimes may compute a text model.

    Attributes:
        mode: ``auto``, ``exact`` or ``torch``.
        cache_folder: the folder of converted models and of saved trials.
    """

    mode: str = "auto"
    cache_folder: Path = Path("~/.cache/memetwin")


@dataclass(frozen=True)
class SelectedRuntime:
    """The selected runtime, its trial, and the trials of all runtimes."""

    runtime: Runtime
    trial: RuntimeTrial
    trials: list[RuntimeTrial]


RuntimeFactories = Mapping[tuple[str, str], Callable[[], Runtime]]


def factories(model: Any, pad_token: int, digest: str, options: RuntimeOptions) -> RuntimeFactories:
    """Return the factories of the runtimes that may compute a model on this machine.

    Args:
        model: a sentence-transformers model for text.
        pad_token: the id that fills short rows.
        digest: the model's digest; its conversion is saved under it.
        options: which runtimes are allowed.

    Returns:
        Factories by name and dtype; float32 torch, the reference, is first.
    """
    device, cache_folder = str(model.device), options.cache_folder.expanduser()
    found: dict[tuple[str, str], Callable[[], Runtime]] = {
        ("torch", "float32"): lambda: TorchRuntime(model, pad_token)
    }
    bfloat16 = _has_fast_bfloat16(device)
    if options.mode == "torch" or device != "cpu":
        if bfloat16:
            found["torch", "bfloat16"] = lambda: TorchRuntime(model, pad_token, half=True)
        if device.startswith("cuda") and options.mode != "torch":
            for dtype in (torch.float16, torch.bfloat16)[: 1 + bfloat16]:
                found[CudaGraphRuntime.name, str(dtype).removeprefix("torch.")] = functools.partial(
                    CudaGraphRuntime, model, pad_token, dtype
                )
        return found
    return found | _openvino_factories(model, pad_token, digest, cache_folder, half=bfloat16)


def _openvino_factories(
    model: Any, pad_token: int, digest: str, cache_folder: Path, *, half: bool
) -> dict[tuple[str, str], Callable[[], Runtime]]:
    """Return the factories of OpenVINO's runtimes; ``half`` allows bfloat16."""
    converted = functools.cache(lambda: convert(model, cache_folder, digest))
    rotary = uses_rotary_positions(model)
    probe = converted_file(model, cache_folder, digest) if rotary and half else None
    found: dict[tuple[str, str], Callable[[], Runtime]] = {
        ("openvino", "float32"): lambda: OpenVinoRuntime(converted(), pad_token)
    }
    if half:
        found["openvino", "bfloat16"] = lambda: OpenVinoRuntime(
            converted(), pad_token, "bfloat16", half=True, probe=probe
        )
    found["openvino", "int8"] = lambda: OpenVinoRuntime(converted(), pad_token, "int8", half=half)
    return found


def select(
    factories: RuntimeFactories, sample: Sample, *, exact: bool, record: Path
) -> SelectedRuntime:
    """Select the fastest runtime that agrees with the reference, or the reference itself.

    Args:
        factories: the runtimes' factories, the reference first; runtimes that fail are left out.
        sample: the texts of the trials.
        exact: require MIN_COSINE of every text, instead of MIN_MEAN_COSINE.
        record: the file of saved trials.
    """
    machine = _machine(factories)
    trials = _read_trials(record, machine) or run_trials(factories.values(), sample)
    reference = trials[0]
    agreeing = [trial for trial in trials[1:] if agrees(trial, reference, exact=exact)]
    for trial in sorted(agreeing, key=lambda one: -one.texts_per_second):
        if trial.texts_per_second < reference.texts_per_second:
            break
        try:
            runtime = factories[trial.runtime, trial.dtype]()
        except Exception:
            log.exception("a runtime cannot be created", extra={"runtime": trial.runtime})
            continue
        _save_trials(record, machine, trials)
        return SelectedRuntime(runtime, trial, trials)
    return SelectedRuntime(factories[reference.runtime, reference.dtype](), reference, trials)


def derived_digest(digest: str, runtime: str, dtype: str) -> str:
    """Return the digest of a model whose vectors in a runtime differ from those of torch."""
    return hashlib.sha256(f"{digest} {runtime} {dtype} {VERSION}".encode()).hexdigest()


def agrees(trial: RuntimeTrial, reference: RuntimeTrial, *, exact: bool) -> bool:
    """Return whether a runtime's vectors may be served instead of the reference's."""
    if trial.batch_invariance < MIN_BATCH_INVARIANCE:
        return False
    if exact:
        return trial.min_cosine >= MIN_COSINE
    return trial.mean_cosine >= MIN_MEAN_COSINE and trial.top1_hits >= reference.top1_hits


def _has_fast_bfloat16(device: str) -> bool:
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    # A processor without these instructions emulates bfloat16, which is many times slower than
    # float32.
    return device == "cpu" and _CPUINFO.is_file() and "avx512_bf16" in _CPUINFO.read_text()


def _machine(factories: RuntimeFactories) -> str:
    """Describe what the trials depend on besides the model: hardware, versions and runtimes."""
    parts: list[Any] = [VERSION, platform.machine(), platform.processor(), available_cores()]
    parts += [torch.__version__, *factories]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return " ".join(map(str, [*parts, _processor_digest()]))


def _processor_digest() -> str:
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.is_file() else []
    described = [line for line in lines if line.startswith(("model name", "flags"))]
    return hashlib.sha256("".join(described[:2]).encode()).hexdigest()[:16]


# Files of earlier versions have these names. If they could not be read, an upgrade would run the
# trials again, and another choice of runtime would change the model's digest.
_STORED_NAMES = {
    "least_cosine": "min_cosine",
    "independence": "batch_invariance",
    "found": "top1_hits",
}


def _read_trials(record: Path, machine: str) -> list[RuntimeTrial]:
    """Read the trials of this machine, or none if the file is missing or damaged."""
    try:
        # An earlier version kept runtimes with NaN as a result. int("NaN") raises ValueError.
        trials = json.loads(record.read_text(), parse_constant=int)[machine]
        return [
            RuntimeTrial(**{_STORED_NAMES.get(name, name): value for name, value in trial.items()})
            for trial in trials
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _save_trials(record: Path, machine: str, trials: Sequence[RuntimeTrial]) -> None:
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({machine: list(map(dataclasses.asdict, trials))}, indent=1)
        temporary = record.with_suffix(f".{os.getpid()}")
        temporary.write_text(text)
        temporary.replace(record)
    except OSError as error:
        log.warning("runtime trials cannot be saved: %s", error)
