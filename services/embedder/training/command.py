"""The commands ``memetwin train`` and ``memetwin visualize``."""

import math
from pathlib import Path
from typing import Any

import click

# Slow imports happen where they are needed, so that --help answers at once.

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_OUT = click.Path(file_okay=False, path_type=Path)
_SHIPPED = Path(__file__).parents[1] / "models" / "shipped" / "memetwin-convnet"
_EPOCHS = {"pictures": 300, "pairs": 5}
_PATIENCE = {"pictures": 30, "pairs": 2}
_HOLD_OUT = {"pictures": 4, "pairs": 10}


def _show_defaults(defaults: dict[str, int]) -> str:
    return f"[default: {defaults['pictures']} for pictures, {defaults['pairs']} for pairs]"


@click.command()
@click.option(
    "--pictures",
    type=_FOLDER,
    help="Folder of images to train an image network on.",
)
@click.option(
    "--pairs",
    type=_FILE,
    help='File of pairs to fine-tune a text model on. Each line is JSON {"a": …, "b": …}, and may'
    ' have "label": true where the texts match, or false where they do not.',
)
@click.option(
    "--out",
    type=_OUT,
    required=True,
    help="Folder for the model and its card. The same command resumes an interrupted training.",
)
@click.option(
    "--architecture",
    type=_FILE,
    help="[pictures] File that declares the layers.  [default: the shipped network's]",
)
@click.option(
    "--labels/--no-labels",
    default=None,
    help="[pictures] Whether the names of sub-folders are labels to learn (supervised) or not"
    " (self-supervised).  [default: they are, if every image is in one of several sub-folders]",
)
@click.option(
    "--model",
    default="all-MiniLM-L6-v2",
    show_default=True,
    help="[pairs] sentence-transformers model to start from: a name or a folder.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    help=f"Maximum passes over the data. {_show_defaults(_EPOCHS)}",
)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Maximum minutes.")
@click.option(
    "--patience",
    type=click.IntRange(0),
    help="Early stopping: end after this many epochs without a lower held-out loss, and use the"
    " weights of the best epoch. 0 disables it. {_show_defaults(_PATIENCE)}",
)
@click.option(
    "--hold-out",
    type=click.IntRange(0),
    help=f"Hold out one item in this many for early stopping and evaluation; 0 holds out none."
    f" {_show_defaults(_HOLD_OUT)}",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the random numbers.")
def train(pictures: Path | None, pairs: Path | None, **options: Any) -> None:
    """Train an image network on images, or fine-tune a text model on pairs of texts.

    The result is a folder that the embedder serves, with MEMETWIN_IMAGE_MODEL=FOLDER or
    MEMETWIN_TEXT_MODEL=FOLDER. Its README.md describes the training and the quality.
    """
    if (data := pictures or pairs) is None or (pictures and pairs):
        raise click.UsageError("Give either --pictures or --pairs.")
    job = _job(data, "pictures" if pictures else "pairs", options)
    try:
        if pictures:
            from services.embedder.training import image_training  # noqa: PLC0415

            architecture = options["architecture"] or _SHIPPED / "architecture.json"
            card = image_training.train(job, architecture, labelled=options["labels"])
        else:
            from services.embedder.training import text_training  # noqa: PLC0415

            card = text_training.train(job, options["model"])
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(card)


@click.command()
@click.argument("picture", type=_FILE)
@click.option("--network", type=_FOLDER, default=_SHIPPED, help="Folder of an image network.")
@click.option("--out", type=_OUT, required=True, help="Folder for the PNG files.")
def visualize(picture: Path, network: Path, out: Path) -> None:
    """Draw the filters of an image network, and its feature maps of a PICTURE."""
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


def _job(data: Path, kind: str, options: dict[str, Any]) -> Any:
    from services.embedder.training.job import TrainingJob  # noqa: PLC0415
    from services.embedder.training.trainer import TrainerConfig  # noqa: PLC0415

    def value(name: str, defaults: dict[str, int]) -> int:
        return defaults[kind] if options[name] is None else int(options[name])

    if (hold_out := value("hold_out", _HOLD_OUT)) == 1:
        raise click.UsageError("--hold-out 1 holds out everything: give 0, or 2 or more.")
    config = TrainerConfig(
        max_epochs=value("epochs", _EPOCHS),
        max_minutes=options["minutes"] or math.inf,
        patience=value("patience", _PATIENCE),
        seed=options["seed"],
    )
    return TrainingJob(data, options["out"], config, hold_out)
