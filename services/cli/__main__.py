"""The ``memetwin`` command, a gRPC client of the gateway.

Other installs add commands, for example ``train``, through the entry point group
``memetwin.commands``.
"""

import os
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import click
import grpc

from services.cli import calibrate as calibration
from services.cli import evaluate as evaluation
from services.cli import tour as tours
from services.cli.cache_load import load_file
from services.cli.channels import gateway_channel
from services.cli.exports import export, import_file
from services.cli.keys import keys
from services.cli.load import DEMO, load_documents, load_pictures, load_texts
from services.cli.reports import Report
from services.cli.tune import tune

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


class PluginGroup(click.Group):
    """A group that also has the commands of an entry point group. It imports them on use."""

    entry_point_group = "memetwin.commands"

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        plugins = entry_points(group=self.entry_point_group)
        return sorted({*super().list_commands(ctx), *(plugin.name for plugin in plugins)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None."""
        for plugin in entry_points(group=self.entry_point_group, name=cmd_name):
            return _load_command(plugin)
        return super().get_command(ctx, cmd_name)


class CacheGroup(PluginGroup):
    """The commands of the cache."""

    entry_point_group = "memetwin.commands.cache"


def _load_command(plugin: EntryPoint) -> click.Command:
    try:
        command: click.Command = plugin.load()
    except ImportError as error:
        raise click.ClickException(
            f"The command needs a package that is not installed: {error}"
        ) from error
    return command


@click.group(cls=PluginGroup)
@click.option(
    "--gateway",
    default=lambda: os.environ.get("MEMETWIN_GATEWAY_ADDRESS") or "127.0.0.1:50050",
    show_default="MEMETWIN_GATEWAY_ADDRESS or 127.0.0.1:50050",
    help="Address of the gateway.",
)
@click.pass_context
def main(context: click.Context, gateway: str) -> None:
    """Load pictures and documents, move and tune collections, and measure a running stack."""
    context.obj = gateway


@main.command()
@click.argument("folder", type=FOLDER, required=False)
@click.option("--demo", is_flag=True, help="Load the texts and pictures of the demo.")
@click.option("--prune", is_flag=True, help="Remove the pictures that are gone from the FOLDER.")
@click.pass_obj
def load(gateway: str, folder: Path | None, demo: bool, prune: bool) -> None:
    """Load the pictures in a FOLDER as twins. The file names become the titles.

    Skip pictures that are already loaded, hidden files, and what .gitignore names. The id of a
    picture is its path in the FOLDER.
    """
    if not folder and (prune or not demo):
        raise click.UsageError("Name a FOLDER or use --demo.")
    with gateway_channel(gateway) as channel:
        reports = []
        if demo:
            reports.append(load_texts(channel, DEMO / "memes.jsonl"))
            reports.append(load_pictures(channel, DEMO / "pictures"))
            for report in reports:
                report.receipts.clear()
        if folder:
            reports.append(load_pictures(channel, folder, prune=prune))
    _finish(reports)


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--collection", default="documents", show_default=True, help="Target collection.")
@click.option("--prune", is_flag=True, help="Remove the documents that are gone from the FOLDER.")
@click.pass_obj
def ingest(gateway: str, folder: Path, collection: str, prune: bool) -> None:
    """Ingest the documents in a FOLDER, and print a receipt for every file.

    Skip files that have not changed, hidden files, and what .gitignore names. The id of a document
    is its path in the FOLDER.
    """
    with gateway_channel(gateway) as channel:
        report = load_documents(channel, folder, collection, prune=prune)
    _finish([report])


@main.command()
@click.option(
    "--corpus", type=FILE, required=True, help="Documents: JSON lines with id, title and text."
)
@click.option("--queries", type=FILE, required=True, help="Questions: JSON lines with id and text.")
@click.option("--qrels", type=FILE, required=True, help="Judgements: query, document, relevance.")
@click.option("--unanswerable", type=FILE, help="Unanswerable questions: JSON lines with text.")
@click.option("--calibrate", is_flag=True, help="Calibrate refusals on these questions first.")
@click.option("--rerank", is_flag=True, help="Rerank passages with the embedder's cross-encoder.")
@click.option("--collection", help="Collection to use. By default, each corpus has its own.")
@click.option("--picture", type=click.Path(path_type=Path), default=Path("evaluation.png"),
              show_default=True, help="PNG file for the charts.")  # fmt: skip
@click.pass_obj
def evaluate(gateway: str, /, calibrate: bool, picture: Path, **task: Any) -> None:
    """Measure retrieval and refusals on a corpus, and draw charts."""
    with gateway_channel(gateway) as channel:
        evaluation.run(channel, evaluation.Task(**task, calibrate=calibrate), click.echo, picture)


@main.command()
@click.pass_obj
def tour(gateway: str) -> None:
    """Show a twin, a search, cache hits, an answer with citations and a refusal, with timings."""
    with gateway_channel(gateway) as channel:
        tours.run(channel, click.echo)


@main.group(cls=CacheGroup)
def cache() -> None:
    """Load and calibrate the semantic cache, or train its verifier."""


@cache.command()
@click.option("--pairs", required=True, type=FILE,
              help='Labelled pairs: JSON lines of {"a": …, "b": …, "duplicate": …}.')  # fmt: skip
@click.option("--precision", default=0.95, show_default=True, help="Target share of right hits.")
@click.option("--curve", type=click.Path(dir_okay=False, path_type=Path),
              help="SVG file for a chart of precision over hit ratio.")  # fmt: skip
@click.pass_obj
def calibrate(gateway: str, pairs: Path, precision: float, curve: Path | None) -> None:
    """Find the bounds that reach a target precision on your pairs of questions."""
    with gateway_channel(gateway) as channel:
        try:
            bounds = calibration.calibrate(channel, pairs, precision)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
    click.echo(calibration.describe("min_similarity ", bounds.min_similarity))
    click.echo(calibration.describe("min_probability", bounds.min_probability))
    if curve:
        curve.write_text(calibration.chart(bounds))


cache.add_command(load_file)
main.add_command(export)
main.add_command(import_file)
main.add_command(keys)
main.add_command(tune)


def _finish(reports: list[Report]) -> None:
    """Print reports and exit, with status 1 if one of the loads failed completely."""
    for report in reports:
        for receipt in report.receipts:
            click.echo(f"  {receipt}")
        click.echo(report.summary())
        for problem in report.problems:
            click.echo(f"  failed: {problem}", err=True)
        for warning in report.warnings:
            click.echo(f"  warning: {warning}", err=True)
    sys.exit(int(any(report.failed for report in reports)))


def run() -> None:
    """Run the command. Print the error of a service as one line."""
    try:
        main(prog_name="memetwin")
    except grpc.RpcError as error:
        message = error.details() if isinstance(error, grpc.Call) else str(error)
        if isinstance(error, grpc.Call) and error.code() == grpc.StatusCode.UNAUTHENTICATED:
            message = "The gateway requires an API key: set MEMETWIN_API_KEY to a key it knows."
        click.echo(f"memetwin: {message}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    run()
