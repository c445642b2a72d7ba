import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from services.embedder.models import runtime_selection
from services.embedder.models.model import RuntimeTrial
from services.embedder.models.runtime_selection import (
    MIN_BATCH_INVARIANCE,
    MIN_COSINE,
    MIN_MEAN_COSINE,
    RuntimeOptions,
    agrees,
)
from services.embedder.models.runtime_trials import Sample
from services.embedder.models.runtimes import Runtime
from tests.fakes.runtimes import NoisyRuntime

SAMPLE = Sample([[1], [2]])


def trial(name: str, speed: float = 1.0, **changes: Any) -> RuntimeTrial:
    perfect = {"mean_cosine": 1.0, "min_cosine": 1.0, "batch_invariance": 1.0, "top1_hits": 24}
    return RuntimeTrial(name, "float32", **(perfect | changes), texts_per_second=speed)


class Machine:
    """Runtimes by name, and the trials that they would have."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, record: Path) -> None:
        self.trials = [trial("reference", 10)]
        self.broken: set[str] = set()
        self.runs = 0
        self.record = record
        monkeypatch.setattr(runtime_selection, "run_trials", self._run)

    def select(self, *, exact: bool = False) -> str:
        factories = {(one.runtime, one.dtype): self._factory(one.runtime) for one in self.trials}
        selected = runtime_selection.select(factories, SAMPLE, exact=exact, record=self.record)
        assert selected.trial.runtime == selected.runtime.name
        return selected.runtime.name

    def _run(self, factories: Any, sample: Sample) -> list[RuntimeTrial]:
        self.runs += 1
        return self.trials

    def _factory(self, name: str) -> Callable[[], Runtime]:
        def create() -> Runtime:
            if name in self.broken:
                raise RuntimeError("no memory")
            return NoisyRuntime(name)

        return create


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path / "deep" / "trials.json")


def test_the_fastest_agreeing_runtime_is_selected(machine: Machine) -> None:
    machine.trials += [trial("slow", 20), trial("fast", 40), trial("wrong", 80, mean_cosine=0.5)]
    assert machine.select() == "fast"


def test_the_reference_is_selected_where_it_is_the_fastest(machine: Machine) -> None:
    machine.trials += [trial("slow", 5)]
    assert machine.select() == "reference"


def test_a_runtime_that_cannot_be_created_is_skipped(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.trials += [trial("slow", 20), trial("fast", 40)]
    machine.broken = {"fast"}
    assert machine.select() == "slow"
    assert "a runtime cannot be created" in caplog.text


def test_saved_trials_are_used_again(machine: Machine) -> None:
    machine.trials += [trial("fast", 40)]
    assert machine.select() == machine.select() == "fast"
    assert machine.runs == 1


def test_trials_of_another_machine_are_not_used(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.trials += [trial("fast", 40)]
    machine.select()
    monkeypatch.setattr(runtime_selection, "available_cores", lambda: 1000)
    machine.select()
    assert machine.runs == 2


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"x": [{"no": 1}]}'])
def test_a_damaged_record_is_replaced(machine: Machine, content: str) -> None:
    machine.trials += [trial("fast", 40)]
    machine.record.parent.mkdir()
    machine.record.write_text(content)
    assert machine.select() == "fast"
    [saved] = json.loads(machine.record.read_text()).values()
    assert [one["runtime"] for one in saved] == ["reference", "fast"]
    assert [path.name for path in machine.record.parent.iterdir()] == ["trials.json"]


def test_a_record_that_cannot_be_written_is_logged(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.trials += [trial("fast", 40)]
    machine.record.parent.write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        assert machine.select() == "fast"
    assert "runtime trials cannot be saved" in caplog.text


@pytest.mark.parametrize(
    ("changes", "auto", "exact"),
    [
        ({}, True, True),
        ({"min_cosine": MIN_COSINE - 1e-6}, True, False),
        ({"mean_cosine": MIN_MEAN_COSINE - 1e-6, "min_cosine": 0.9}, False, False),
        ({"top1_hits": 23, "min_cosine": 0.9}, False, False),
        ({"top1_hits": 25, "min_cosine": 0.9}, True, False),
        ({"batch_invariance": MIN_BATCH_INVARIANCE - 1e-6}, False, False),
    ],
)
def test_each_mode_has_its_own_requirements(
    changes: dict[str, Any], auto: bool, exact: bool
) -> None:
    candidate, reference = trial("candidate", **changes), trial("reference")
    assert agrees(candidate, reference, exact=False) is auto
    assert agrees(candidate, reference, exact=True) is exact


class Model:
    def __init__(self, device: str) -> None:
        self.device = device

    def modules(self) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("mode", "device", "bfloat16", "expected"),
    [
        ("auto", "cpu", False, ["torch float32", "openvino float32", "openvino int8"]),
        ("exact", "cpu", True, ["torch float32", "openvino float32", "openvino bfloat16",
                                "openvino int8"]),
        ("torch", "cpu", True, ["torch float32", "torch bfloat16"]),
        ("torch", "cuda:0", True, ["torch float32", "torch bfloat16"]),
        ("auto", "cuda:0", False, ["torch float32", "cuda float16"]),
        ("auto", "cuda:0", True, ["torch float32", "torch bfloat16", "cuda float16",
                                  "cuda bfloat16"]),
        ("auto", "mps", False, ["torch float32"]),
    ],
)  # fmt: skip
def test_the_runtimes_depend_on_mode_and_device(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    mode: str,
    device: str,
    bfloat16: bool,
    expected: list[str],
) -> None:
    monkeypatch.setattr(runtime_selection, "_has_fast_bfloat16", lambda device: bfloat16)
    options = RuntimeOptions(mode, tmp_path)
    found = runtime_selection.factories(Model(device), 0, "digest", options)
    assert [" ".join(name) for name in found] == expected


@pytest.mark.parametrize("flags", ["flags\t: avx2", "flags\t: avx2 avx512_bf16"])
def test_bfloat16_is_fast_where_the_processor_has_its_instructions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(flags)
    monkeypatch.setattr(runtime_selection, "_CPUINFO", file)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert runtime_selection._has_fast_bfloat16("cpu") is ("bf16" in flags)
    assert runtime_selection._has_fast_bfloat16("cuda:1")
    assert not runtime_selection._has_fast_bfloat16("mps")


def test_trials_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    trial = {"runtime": "torch", "dtype": "float32", "texts_per_second": 1.0, "mean_cosine": 1.0}
    earlier = {**trial, "least_cosine": 0.5, "independence": 0.75, "found": 3}
    record = tmp_path / "trials.json"
    record.write_text(json.dumps({"machine": [earlier]}))
    [read] = runtime_selection._read_trials(record, "machine")
    assert (read.min_cosine, read.batch_invariance, read.top1_hits) == (0.5, 0.75, 3)


def test_a_record_with_a_result_that_is_not_a_number_is_replaced(tmp_path: Path) -> None:
    record = tmp_path / "trials.json"
    found = dataclasses.asdict(trial("fast", 40)) | {"batch_invariance": float("nan")}
    record.write_text(json.dumps({"machine": [found]}))
    assert runtime_selection._read_trials(record, "machine") == []
