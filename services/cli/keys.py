"""``memetwin keys``: creates, lists and revokes API keys in the file that gateways read."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from services.cli.key_changes import add, remove
from services.key_file import (
    ADMIN,
    ALL_BUT_ADMIN,
    FEATURES,
    Key,
    Limits,
    format_time,
    new_key,
    parse,
)

_LIMITS = [field.name for field in dataclasses.fields(Limits)]
_COLUMNS = ("id", "name", "tenant", "rights", "not after", "state")


def _file_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--file",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="MEMETWIN_API_KEYS_FILE",
        required=True,
        help="File of API keys; MEMETWIN_API_KEYS_FILE by default.",
    )(command)


@click.group()
def keys() -> None:
    """Create, list and revoke the API keys of a gateway.

    Run it where the file of keys is. The gateway reads a changed file within two seconds.
    """


@keys.command()
@click.option("--tenant", required=True, help="Tenant that the key belongs to.")
@click.option("--name", help="Name for people.")
@click.option("--right", "rights", multiple=True,
              help=f"A right: {', '.join(FEATURES)}, each also with :read or :write, or {ADMIN}."
              " Can be repeated. By default, all but admin.")  # fmt: skip
@click.option("--collection", "collections", multiple=True,
              help="A collection for the key. Can be repeated. By default, all.")  # fmt: skip
@click.option("--user", help="The only user of the key's cache scopes.")
@click.option("--namespace", "namespaces", multiple=True,
              help="A namespace for the key. Can be repeated. By default, all.")  # fmt: skip
@click.option("--not-after", help="When the key expires, such as 2030-01-31T12:00:00Z.")
@click.option("--limit", "limits", multiple=True, metavar="NAME=NUMBER",
              help=f"A limit: {', '.join(_LIMITS)}. Can be repeated.")  # fmt: skip
@_file_option
def create(file: Path, limits: tuple[str, ...], **fields: Any) -> None:
    """Create a key, print it once, and store its hash."""
    key, digest = new_key()
    if limits:
        fields["limits"] = dict(map(_limit, limits))
    named = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in fields.items()
        if value not in (None, ())
    }
    with _readable_errors(file):
        add(file, {"sha256": digest, **named})
    click.echo(key)
    click.echo("The key is shown only now. The file has its hash.", err=True)


@keys.command(name="list")
@_file_option
def list_keys(file: Path) -> None:
    """List the keys in the file."""
    with _readable_errors(file):
        found = parse(file.read_bytes()).keys.values()
    _print_table([_COLUMNS, *map(_row, found)])


@keys.command()
@click.argument("key_id", metavar="ID")
@_file_option
def revoke(key_id: str, file: Path) -> None:
    """Revoke the key with an ID, as memetwin keys list shows it."""
    with _readable_errors(file):
        key = remove(file, key_id)
    click.echo(f"Revoked the key {key.id} of the tenant {key.tenant!r}.")


def _limit(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not of the form NAME=NUMBER.") from error
    return name, int(value) if value.is_integer() else value


def _row(key: Key) -> list[str]:
    rights = "all but admin" if key.rights == ALL_BUT_ADMIN else ",".join(_short(key.rights))
    state = "expired" if key.not_after <= time.time() else "valid"
    return [key.id, key.name, key.tenant, rights, format_time(key.not_after), state]


def _short(rights: frozenset[str]) -> Iterator[str]:
    """Yield the names of rights; a feature stands for reading and writing."""
    for feature in (*FEATURES, ADMIN):
        of_feature = sorted(right for right in rights if right.partition(":")[0] == feature)
        yield from [feature] if len(of_feature) > 1 else of_feature


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


@contextlib.contextmanager
def _readable_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except LookupError as error:
        raise click.ClickException(str(error.args[0])) from error
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{file}: {error}") from error
