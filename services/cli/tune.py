"""``memetwin tune``: accuracy, speed and space of an index as a table and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.cli.channels import channel, search_option
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
@click.option("--target-recall", default=0.95, show_default=True, help="Recall to reach.")
@click.option("--documents", default=10_000, show_default=True, help="Documents to index.")
@click.option("--queries", default=100, show_default=True, help="Queries to ask each index.")
@click.option("--m", multiple=True, type=int, help="Links of a node; repeat it for more.")
@click.option("--ef-construction", multiple=True, type=int, help="Candidates while building.")
@click.option("--ef-runtime", multiple=True, type=int, help="Candidates while searching.")
@click.option("--quantization", multiple=True, type=click.Choice(list(_QUANTIZATIONS)))
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Picture to draw (PNG).",
)
@search_option()
def tune(collection: str, plot: Path | None, search: str, **grid: Any) -> None:
    """Build indexes of a sample of a COLLECTION, measure each, and recommend one."""
    grid["quantization"] = [_QUANTIZATIONS[name] for name in grid["quantization"]]
    measured: list[Measurement] = []
    with channel(search) as to, tqdm(unit=" indexes", disable=None) as bar:
        stub = search_pb2_grpc.SearchServiceStub(to)
        request = search_pb2.TuneIndexRequest(collection=resolve(stub, collection), **grid)
        for reply in stub.TuneIndex(request, timeout=3600):
            measured += reply.measurements
            bar.total = reply.total
            bar.update()
    best = reply.recommended if reply.HasField("recommended") else None
    for line in table(measured, best):
        click.echo(line)
    if plot:
        draw(measured, best, plot)
        click.echo(f"The curves are in {plot}.")
    if best is None:
        raise click.ClickException(
            f"No setting reaches a recall of {grid['target_recall']}: try a larger m or ef."
        )


def table(measured: Sequence[Measurement], best: Measurement | None) -> list[str]:
    """Return the lines of a table; the recommended setting has a star."""
    lines = [
        "   m  ef_constr  ef_run  quantization   recall   p50 ms   p99 ms   load/s      MiB",
    ]
    for one in measured:
        setting = one.setting
        lines.append(
            f"{setting.m:4}  {setting.ef_construction:9}  {setting.ef_runtime:6}"
            f"  {_NAMES[setting.quantization]:12}  {one.recall:7.4f}  {1000 * one.p50:7.2f}"
            f"  {1000 * one.p99:7.2f}  {one.documents_per_second:7.0f}"
            f"  {one.memory_bytes / 2**20:7.1f}{' *' if one == best else ''}"
        )
    return lines


def draw(measured: Sequence[Measurement], best: Measurement | None, file: Path) -> None:
    """Draw recall by time, by memory and by load rate, a curve for each index, as a PNG."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    indexes: dict[str, list[Measurement]] = {}
    for one in measured:
        setting = one.setting
        name = f"m {setting.m}, ef {setting.ef_construction}, {_NAMES[setting.quantization]}"
        indexes.setdefault(name, []).append(one)
    figure = Figure(figsize=(15, 5), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    titles = ("median time of a query, ms", "memory of the index, MiB", "load, documents a second")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_xlabel(title)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("recall")
    for name, points in indexes.items():
        for axis, values in zip(axes, zip(*map(_place, points), strict=True), strict=True):
            axis.plot(values, [one.recall for one in points], "o-", label=name)
    if best:
        for axis, place in zip(axes, _place(best), strict=True):
            axis.plot([place], [best.recall], "*", color="black", markersize=16)
    axes[0].legend(title="a point for each ef_runtime", fontsize="small")
    figure.savefig(file, dpi=110, format="png")


def _place(one: Measurement) -> tuple[float, float, float]:
    return 1000 * one.p50, one.memory_bytes / 2**20, one.documents_per_second
