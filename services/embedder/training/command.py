"""The commands ``memetwin train`` and ``memetwin visualize``."""

import math
from pathlib import Path
from typing import Any

import click

# What takes seconds to import is imported when it is needed, so that --help answers at once.

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_OUT = click.Path(file_okay=False, path_type=Path)
_SHIPPED = Path(__file__).parents[1] / "models" / "shipped" / "memetwin-convnet"
_EPOCHS = {"pictures": 300, "pairs": 5}
_PATIENCE = {"pictures": 30, "pairs": 2}
_HOLD_OUT = {"pictures": 4, "pairs": 10}


def _default(values: dict[str, int]) -> str:
    return f"[default: {values['pictures']} for pictures, {values['pairs']} for pairs]"


@click.command()
@click.option(
    "--pictures",
    type=_FOLDER,
    help="Folder of pictures to train an image network on.",
)
@click.option(
    "--pairs",
    type=_FILE,
    help='Pairs of texts to fine-tune a text model on: lines of JSON {"a": …, "b": …}, or with'
    ' "label": true for pairs that belong together and false for pairs that do not.',
)
@click.option(
    "--out",
    type=_OUT,
    required=True,
    help="Folder to write the model and its card to. If a training into it was interrupted, the"
    " same command goes on with it.",
)
@click.option(
    "--architecture",
    type=_FILE,
    help="[pictures] JSON that declares the layers; by default the shipped network's.",
)
@click.option(
    "--labels/--no-labels",
    default=None,
    help="[pictures] Learn the names of sub-folders as labels (supervised), or without labels"
    " (self-supervised). By default with, if every picture lies in one of several sub-folders.",
)
@click.option(
    "--model",
    default="all-MiniLM-L6-v2",
    show_default=True,
    help="[pairs] sentence-transformers model to begin from: a name or a folder.",
)
@click.option("--epochs", type=click.IntRange(1), help=f"Passes over the data. {_default(_EPOCHS)}")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="When to end even so.")
@click.option(
    "--patience",
    type=click.IntRange(0),
    help="Early stopping: end after so many epochs without a lower held-out loss; 0 never."
    f" The best epoch is kept. {_default(_PATIENCE)}",
)
@click.option(
    "--hold-out",
    type=click.IntRange(0),
    help=f"Of every so many, hold out one for early stopping and evaluation; 0 none."
    f" {_default(_HOLD_OUT)}",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of all that is random.")
def train(pictures: Path | None, pairs: Path | None, **given: Any) -> None:
    """Train an image network on pictures, or fine-tune a text model on pairs of texts.

    The result is one folder that the embedder serves: MEMETWIN_IMAGE_MODEL=FOLDER or
    MEMETWIN_TEXT_MODEL=FOLDER. Its README.md says on what it was trained and how good it is.
    """
    if (data := pictures or pairs) is None or (pictures and pairs):
        raise click.UsageError("Give either --pictures or --pairs.")
    task = _task(data, "pictures" if pictures else "pairs", given)
    try:
        if pictures:
            from services.embedder.training import image_training  # noqa: PLC0415

            declared = given["architecture"] or _SHIPPED / "architecture.json"
            card = image_training.train(task, declared, labelled=given["labels"])
        else:
            from services.embedder.training import text_training  # noqa: PLC0415

            card = text_training.train(task, given["model"])
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(card)


@click.command()
@click.argument("picture", type=_FILE)
@click.option("--network", type=_FOLDER, default=_SHIPPED, help="Folder of an image network.")
@click.option("--out", type=_OUT, required=True, help="Folder for the PNGs.")
def visualize(picture: Path, network: Path, out: Path) -> None:
    """Draw a network's filters and what each of its layers sees of a PICTURE (feature maps)."""
    from services.embedder.decoding import images  # noqa: PLC0415
    from services.embedder.models.network import Network  # noqa: PLC0415
    from services.embedder.training import feature_maps  # noqa: PLC0415
    from services.errors import InvalidArgument  # noqa: PLC0415

    try:
        decoded = images.decode(picture.read_bytes(), str(picture))
        files = feature_maps.draw(Network.load(network), decoded, out)
    except (InvalidArgument, ValueError) as error:
        raise click.ClickException(str(error)) from error
    for file in files:
        click.echo(file)


def _task(data: Path, kind: str, given: dict[str, Any]) -> Any:
    from services.embedder.training.task import Task  # noqa: PLC0415
    from services.embedder.training.trainer import Plan  # noqa: PLC0415

    def value(name: str, defaults: dict[str, int]) -> int:
        return defaults[kind] if given[name] is None else int(given[name])

    if (hold_out := value("hold_out", _HOLD_OUT)) == 1:
        raise click.UsageError("--hold-out 1 leaves nothing to learn from.")
    plan = Plan(
        value("epochs", _EPOCHS),
        given["minutes"] or math.inf,
        value("patience", _PATIENCE),
        given["seed"],
    )
    return Task(data, given["out"], plan, hold_out)
