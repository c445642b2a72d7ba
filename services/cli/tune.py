"""``memetwin tune``: shows the recall, latency and memory of indexes in a table and charts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.cli.channels import search_channel, search_option
from services.cli.collections import resolve

Measurement = search_pb2.Measurement
_QUANTIZATIONS = {
    "none": search_pb2.QUANTIZATION_NONE,
    "q8": search_pb2.QUANTIZATION_Q8,
    "binary": search_pb2.QUANTIZATION_BINARY,
}
_NAMES = {number: name for name, number in _QUANTIZATIONS.items()}


@click.command()
@click.argument("collection")
@click.option(
    "--target-recall", default=0.95, show_default=True, help="Recall that the index must reach."
)
@click.option(
    "--documents", default=10_000, show_default=True, help="Maximum number of documents to index."
)
@click.option("--queries", default=100, show_default=True, help="Number of queries for each index.")
@click.option(
    "--m", multiple=True, type=int, help="Links of a node. Repeat the option to try several."
)
@click.option(
    "--ef-construction", multiple=True, type=int, help="Candidates while building. Repeatable."
)
@click.option(
    "--ef-runtime", multiple=True, type=int, help="Candidates while searching. Repeatable."
)
@click.option("--quantization", multiple=True, type=click.Choice(list(_QUANTIZATIONS)),
              help="Compression of the vectors. Repeatable.")  # fmt: skip
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="File for the charts (PNG).",
)
@search_option()
def tune(collection: str, plot: Path | None, search: str, **grid: Any) -> None:
    """Build indexes on a sample of a COLLECTION, measure each of them and recommend one."""
    grid["quantization"] = [_QUANTIZATIONS[name] for name in grid["quantization"]]
    measurements: list[Measurement] = []
    with search_channel(search) as channel, tqdm(unit=" indexes", disable=None) as bar:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        request = search_pb2.TuneIndexRequest(collection=resolve(stub, collection), **grid)
        for reply in stub.TuneIndex(request, timeout=3600):
            measurements += reply.measurements
            bar.total = reply.total
            bar.update()
    best = reply.recommended if reply.HasField("recommended") else None
    for line in table(measurements, best):
        click.echo(line)
    if plot:
        draw(measurements, best, plot)
        click.echo(f"The charts are in {plot}.")
    if best is None:
        raise click.ClickException(
            f"No setting reaches a recall of {grid['target_recall']}. Try a larger m or ef."
        )


def table(measurements: Sequence[Measurement], best: Measurement | None) -> list[str]:
    """Return the lines of a table. A star marks the recommended setting."""
    lines = [
        "   m  ef_constr  ef_run  quantization   recall   p50 ms   p99 ms   load/s      MiB",
    ]
    for measurement in measurements:
        setting = measurement.setting
        lines.append(
            f"{setting.m:4}  {setting.ef_construction:9}  {setting.ef_runtime:6}"
            f"  {_NAMES[setting.quantization]:12}  {measurement.recall:7.4f}"
            f"  {1000 * measurement.p50:7.2f}  {1000 * measurement.p99:7.2f}"
            f"  {measurement.documents_per_second:7.0f}"
            f"  {measurement.memory_bytes / 2**20:7.1f}{' *' if measurement == best else ''}"
        )
    return lines


def draw(measurements: Sequence[Measurement], best: Measurement | None, file: Path) -> None:
    """Draw recall over latency, memory and indexing rate as a PNG, with a curve for each index."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    indexes: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        setting = measurement.setting
        name = f"m {setting.m}, ef {setting.ef_construction}, {_NAMES[setting.quantization]}"
        indexes.setdefault(name, []).append(measurement)
    figure = Figure(figsize=(15, 5), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    titles = ("median latency of a query, ms", "memory of the index, MiB", "indexing, documents/s")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_xlabel(title)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("recall")
    for name, points in indexes.items():
        for axis, values in zip(axes, zip(*map(_coordinates, points), strict=True), strict=True):
            axis.plot(values, [point.recall for point in points], "o-", label=name)
    if best:
        for axis, value in zip(axes, _coordinates(best), strict=True):
            axis.plot([value], [best.recall], "*", color="black", markersize=16)
    axes[0].legend(title="a point for each ef_runtime", fontsize="small")
    figure.savefig(file, dpi=110, format="png")


def _coordinates(measurement: Measurement) -> tuple[float, float, float]:
    return (
        1000 * measurement.p50,
        measurement.memory_bytes / 2**20,
        measurement.documents_per_second,
    )
