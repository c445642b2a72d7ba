"""The ``memetwin`` command: a gRPC client like any other.

Commands of other installs (``train``) join by the entry point group ``memetwin.commands``.
"""

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import grpc

from services.cli import calibrate as calibration
from services.cli import evaluate as evaluation
from services.cli import tour as tours
from services.cli.channels import gateway_channel
from services.cli.exports import export, import_file
from services.cli.load import DEMO, Report, load_documents, load_pictures, load_texts
from services.cli.tune import tune

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
GROUP = "memetwin.commands"
CACHE_GROUP = "memetwin.commands.cache"


class Commands(click.Group):
    """Our own commands and those of what else is installed, imported when they are called."""

    joined = GROUP

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(
            {*super().list_commands(ctx), *(one.name for one in entry_points(group=self.joined))}
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None."""
        for one in entry_points(group=self.joined):
            if one.name == cmd_name:
                return _load(one)
        return super().get_command(ctx, cmd_name)


class CacheCommands(Commands):
    """The commands of the cache."""

    joined = CACHE_GROUP


def _load(entry_point: object) -> click.Command:
    try:
        command: click.Command = entry_point.load()  # type: ignore[attr-defined]
    except ImportError as error:
        raise click.ClickException(
            f"This command needs an install that is missing: {error}"
        ) from error
    return command


@click.group(cls=Commands)
@click.option(
    "--gateway",
    default=lambda: os.environ.get("MEMETWIN_GATEWAY_ADDRESS") or "127.0.0.1:50050",
    show_default="MEMETWIN_GATEWAY_ADDRESS, else 127.0.0.1:50050",
    help="Address of the gateway.",
)
@click.pass_context
def main(context: click.Context, gateway: str) -> None:
    """Find meme twins, load pictures, keep collections, see what the stack can do."""
    context.obj = gateway


@main.command()
@click.argument(
    "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False
)
@click.option(
    "--demo", is_flag=True, help="Load the texts and pictures that ship with the project."
)
@click.pass_obj
def load(gateway: str, folder: Path | None, demo: bool) -> None:
    """Load a FOLDER of pictures; their titles are the file names. What is there is skipped."""
    if not folder and not demo:
        raise click.UsageError("Name a FOLDER, or say --demo.")
    with gateway_channel(gateway) as to:
        reports = []
        if demo:
            reports += [load_texts(to, DEMO / "memes.jsonl")]
            reports += [load_pictures(to, DEMO / "pictures")]
        if folder:
            reports.append(load_pictures(to, folder))
    _say(reports)
    sys.exit(_exit_code(reports))


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--collection", default="documents", show_default=True, help="Where to keep them.")
@click.pass_obj
def ingest(gateway: str, folder: Path, collection: str) -> None:
    """Take in a FOLDER of texts, Markdown, HTML and PDF. What is unchanged is skipped."""
    with gateway_channel(gateway) as to:
        report = load_documents(to, folder, collection)
    _say([report])
    sys.exit(_exit_code([report]))


@main.command()
@click.option("--corpus", type=FILE, required=True, help="Documents: JSON lines: id, title, text.")
@click.option("--queries", type=FILE, required=True, help="Questions: JSON lines of id, text.")
@click.option("--qrels", type=FILE, required=True, help="Judgements: query, document, relevance.")
@click.option("--unanswerable", type=FILE, help="Questions to refuse: JSON lines of text.")
@click.option("--calibrate", is_flag=True, help="First learn from these questions when to refuse.")
@click.option("--rerank", is_flag=True, help="Let the embedder's cross-encoder order passages.")
@click.option("--collection", help="Collection to use; by default one of the corpus's own.")
@click.option("--picture", type=click.Path(path_type=Path), default=Path("evaluation.png"))
@click.pass_obj
def evaluate(gateway: str, /, calibrate: bool, picture: Path, **given: Any) -> None:
    """Measure retrieval and refusals on a corpus, and draw a picture."""
    with gateway_channel(gateway) as to:
        evaluation.run(to, evaluation.Task(**given, calibrate=calibrate), click.echo, picture)


@main.command()
@click.pass_obj
def tour(gateway: str) -> None:
    """Show a twin, a search, cache hits, an answer with citations and a refusal, with times."""
    with gateway_channel(gateway) as to:
        tours.run(to, click.echo)


@main.group(cls=CacheCommands)
def cache() -> None:
    """Calibrate the cache, train its verifier."""


@cache.command()
@click.option("--pairs", required=True, type=click.Path(exists=True, path_type=Path),
              help='Lines of JSON: {"a": …, "b": …, "duplicate": …}.')  # fmt: skip
@click.option("--precision", default=0.95, show_default=True, help="Wanted share of right hits.")
@click.option("--curve", type=click.Path(dir_okay=False, path_type=Path),
              help="File to draw precision over hit ratio to (SVG).")  # fmt: skip
@click.pass_obj
def calibrate(gateway: str, pairs: Path, precision: float, curve: Path | None) -> None:
    """Find the bounds that keep a precision on your own pairs of questions."""
    with gateway_channel(gateway) as to:
        try:
            found = calibration.calibrate(to, pairs, precision)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
    click.echo(calibration.sentence("min_similarity ", found.min_similarity))
    click.echo(calibration.sentence("min_probability", found.min_probability))
    if curve:
        curve.write_text(calibration.picture(found))


main.add_command(export)
main.add_command(import_file)
main.add_command(tune)


def _say(reports: list[Report]) -> None:
    for report in reports:
        click.echo(report.sentence())
        for problem in report.problems:
            click.echo(f"  could not read {problem}", err=True)
        for warning in report.warnings:
            click.echo(f"  {warning}", err=True)


def _exit_code(reports: list[Report]) -> int:
    """Fail only if nothing at all could be loaded."""
    return int(
        any(report.problems and not report.loaded and not report.skipped for report in reports)
    )


def run() -> None:
    """Run the command; what the services refuse is told in a line."""
    try:
        main(prog_name="memetwin")
    except grpc.RpcError as error:
        told = error.details() if isinstance(error, grpc.Call) else str(error)
        if isinstance(error, grpc.Call) and error.code() == grpc.StatusCode.UNAUTHENTICATED:
            told = "The gateway wants an API key: set MEMETWIN_API_KEY to one that it knows."
        click.echo(f"memetwin: {told}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    run()
