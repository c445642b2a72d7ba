"""Translates experiments and measurements between protobuf messages and plain data."""

from memetwin.search.v1 import search_pb2
from services.search.messages import QUANTIZATIONS, read_enum, write_quantization
from services.search.recall_measurement import (
    Experiment,
    IndexSetting,
    Measurement,
    RecallProgress,
)
from services.search.tuning import TuningProgress

_DEFAULT = Experiment()


def read_recall_experiment(message: search_pb2.MeasureRecallRequest) -> Experiment:
    """Read what to measure of an index; no efs stand for the collection's ef_runtime."""
    return Experiment(
        k=message.k or _DEFAULT.k,
        queries=message.sample or _DEFAULT.queries,
        efs=message.ef_runtime,
        seed=message.seed,
    )


def write_recall_progress(value: RecallProgress) -> search_pb2.MeasureRecallResponse:
    """Write the progress of a measurement."""
    return search_pb2.MeasureRecallResponse(
        done=value.done,
        total=value.total,
        measurements=map(_write_measurement, value.measurements),
        exact_p50=value.exact_p50,
    )


def read_tuning_experiment(message: search_pb2.TuneIndexRequest) -> Experiment:
    """Read what to measure of each setting."""
    return Experiment(
        target_recall=message.target_recall or _DEFAULT.target_recall,
        k=message.k or _DEFAULT.k,
        documents=message.documents or _DEFAULT.documents,
        queries=message.queries or _DEFAULT.queries,
        efs=message.ef_runtime or _DEFAULT.efs,
        seed=message.seed,
    )


def read_settings(message: search_pb2.TuneIndexRequest) -> list[IndexSetting]:
    """Read the settings to measure, without ef_runtime. Raises InvalidArgument."""
    quantizations = [read_enum(QUANTIZATIONS, one, "quantization") for one in message.quantization]
    return [
        IndexSetting(m, ef_construction, 0, quantization)
        for quantization in quantizations or ("none",)
        for m in message.m or (8, 16, 32)
        for ef_construction in message.ef_construction or (200,)
    ]


def write_tuning_progress(value: TuningProgress) -> search_pb2.TuneIndexResponse:
    """Write the progress of tuning, at the end with the recommendation."""
    best = value.recommended
    return search_pb2.TuneIndexResponse(
        done=value.done,
        total=value.total,
        measurements=map(_write_measurement, value.measurements),
        recommended=_write_measurement(best) if best else None,
        documents=value.documents,
    )


def _write_measurement(value: Measurement) -> search_pb2.Measurement:
    setting = value.setting
    return search_pb2.Measurement(
        setting=search_pb2.IndexSetting(
            m=setting.m,
            ef_construction=setting.ef_construction,
            ef_runtime=setting.ef_runtime,
            quantization=write_quantization(setting.quantization),
        ),
        recall=value.recall,
        p50=value.p50,
        p99=value.p99,
        documents_per_second=value.documents_per_second,
        memory_bytes=value.memory,
    )
