"""The reference pages name every setting, method, route, command, target and error reason."""

import ast
import dataclasses
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import grpc
import pytest

from services.cli.__main__ import main
from tests.pages import ROOT, Page, page, pages
from tools.docs import SERVICES, rendered

# UPPER_SNAKE texts in the code that are not error reasons, and what they are.
OTHER_TEXTS = {
    # OpenVINO's properties
    "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "NUM_STREAMS", "PERFORMANCE_HINT",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE", "SNIPPETS_MODE", "CPU_RUNTIME_CACHE_CAPACITY",
    # options of Redis' commands
    "DISTANCE_METRIC", "EF_CONSTRUCTION", "EF_RUNTIME", "GRAPH_MAX_DEGREE",
    "CONSTRUCTION_WINDOW_SIZE", "SEARCH_WINDOW_SIZE", "INITIAL_CAP",
    # alarms of the gateway
    "API_KEYS_FILE_NOT_READ", "REDIS_DATA_LOST", "REDIS_EVICTS", "SECRET_DIFFERS",
    "SECRET_UNREADABLE",
    # encodings of sound files
    "MPEG_LAYER_III", "PCM_16", "PCM_24", "PCM_32", "PCM_S8", "PCM_U8",
}  # fmt: skip
CODES = {code.name for code in grpc.StatusCode}
# Reasons that the code builds from a prefix and one of several names.
COMPUTED = {
    "UNKNOWN_": (
        *("task", "encoding", "priority"),
        *("metric", "quantization", "engine", "vector_type", "type", "op", "fusion"),
    ),
    "TOO_MANY_": ("documents", "ids", "queries"),
}


@pytest.mark.parametrize("one", pages(), ids=lambda one: one.path)
def test_generated_parts_are_those_of_the_code(one: Page) -> None:
    assert rendered(one.text) == one.text, "run make docs"


def test_every_setting_is_a_row_with_its_default_and_help() -> None:
    text = page("docs/configuration.md").text
    for kind in SERVICES.values():
        for field in dataclasses.fields(kind):
            default = f"`{field.default}`" if field.default not in ("", None) else "none"
            row = f"| `{field.metadata['env']}` | {default} |"
            assert re.search(f"^{re.escape(row)}.*{re.escape(field.metadata['doc'])}", text, re.M)


def test_every_variable_that_is_read_is_documented() -> None:
    text = page("docs/configuration.md").text
    for folder in ("services", "deploy", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in re.findall(r"MEMETWIN_[A-Z]+(?:_[A-Z]+)*\b(?!_)", path.read_text()):
                assert f"`{name}`" in text, f"{name} of {path.relative_to(ROOT)}"


def test_every_method_is_documented() -> None:
    text = page("docs/grpc-api.md").text
    for proto in (ROOT / "protos/memetwin").rglob("*.proto"):
        for service in re.findall(r"^service (\w+)", proto.read_text(), re.M):
            assert f"### {service}" in text
        for rpc in re.findall(r"^  rpc (\w+)\(", proto.read_text(), re.M):
            assert f"| `{rpc}` |" in text


def test_every_route_is_documented() -> None:
    text = page("docs/http-api.md").text
    found = set(_routes())
    assert "/v1/chat/completions" in found
    for path in found:
        assert re.search(rf"`(?:GET|POST|PUT) {re.escape(path)}(?:/\{{file\}})?`", text), path


def _routes() -> Iterator[str]:
    """The first arguments of Route, Mount and similar calls: their paths."""
    for path in (ROOT / "services/gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args:
                route = getattr(node.args[0], "value", None)
                name = getattr(node.func, "id", "").lower()
                if isinstance(route, str) and name.endswith(("route", "mount")):
                    yield route.replace(":path}", "}")


def test_every_command_and_option_is_documented() -> None:
    text = page("docs/command-line.md").text
    found = {**_commands(main, "memetwin"), **_plugins()}
    assert {"memetwin load", "memetwin train", "memetwin cache train"} <= found.keys()
    for name, options in found.items():
        heading = f"## {name}\n"
        assert heading in text, heading
        section = text.partition(heading)[2].partition("\n## ")[0]
        for option in options:
            assert f"`{option}`" in section, f"{name} {option}"
    for option in _options(main):
        assert f"`{option}`" in text


def _commands(group: click.Group, name: str) -> dict[str, list[str]]:
    """The options of each command that the command line defines itself."""
    found: dict[str, list[str]] = {}
    for part, command in group.commands.items():
        whole = f"{name} {part}"
        if isinstance(command, click.Group):
            found |= _commands(command, whole)
        else:
            found[whole] = _options(command)
    return found


def _options(command: click.Command) -> list[str]:
    options = [one for one in command.params if isinstance(one, click.Option)]
    return [name for one in options for name in (*one.opts, *one.secondary_opts)]


def _plugins() -> dict[str, list[str]]:
    """The options of each command from an entry point, read without importing torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {}
    for group, plugins in project["entry-points"].items():
        prefix = group.replace("memetwin.commands", "memetwin").replace(".", " ")
        for name, target in plugins.items():
            module, _, function = target.partition(":")
            tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
            [command] = [
                node
                for node in tree.body
                if isinstance(node, ast.FunctionDef) and node.name == function
            ]
            texts = [
                argument.value
                for decorator in command.decorator_list
                if isinstance(decorator, ast.Call)
                for argument in decorator.args
                if isinstance(argument, ast.Constant)
            ]
            options = [text for text in map(str, texts) if text.startswith("--")]
            found[f"{prefix} {name}"] = [one for text in options for one in text.split("/")]
    return found


def test_every_target_is_documented_and_in_help() -> None:
    text, makefile = page("docs/command-line.md").text, (ROOT / "Makefile").read_text()
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.M)
    for target in set(phony.split()) - {"help"}:
        assert re.search(rf"^{target}:.*## ", makefile, re.M), target
        assert f"| `make {target}` |" in text, target


def test_every_error_reason_is_documented_once_with_its_code() -> None:
    rows = _documented()
    raised = {reason: codes for reason, codes in _raised().items() if reason}
    for reason in sorted(_reasons() | raised.keys()):
        assert reason in rows, f"{reason} has no row"
    for reason, codes in raised.items():
        assert rows[reason] in {*codes, "by status"}, f"{reason} is {codes}"
    unknown = rows.keys() - _reasons() - raised.keys()
    assert not unknown, f"the code does not raise {unknown}"


def _documented() -> dict[str, str]:
    """The code of each reason in the tables."""
    text = page("docs/grpc-api.md").text.partition("## Error reasons")[2]
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| ([A-Z_]+|by status) \| \S", text, re.M)
    assert len(rows) == len(dict(rows)), "a reason has two rows"
    return dict(rows)


def _reasons() -> set[str]:
    """Every UPPER_SNAKE text in the code that may be a reason."""
    found = {prefix + name.upper() for prefix, names in COMPUTED.items() for name in names}
    for path in (ROOT / "services").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"^[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+$", node.value))
    others = {name for name in found if name.startswith("MEMETWIN_")}
    return found - others - OTHER_TEXTS - (CODES - {"DEADLINE_EXCEEDED"})


def _raised() -> dict[str, set[str]]:
    """The codes of each reason that is raised together with a class of failure."""
    kinds = _failures()
    found: dict[str, set[str]] = {}
    for path in (ROOT / "services").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in kinds and node.args:
                reason: Any = getattr(node.args[0], "value", "")
                if isinstance(reason, str):
                    found.setdefault(reason, set()).add(kinds[getattr(node.func, "id", "")])
    return found


def _failures() -> dict[str, str]:
    from services import errors

    kinds = {kind.__name__: kind.code.name for kind in errors.KINDS}
    return kinds | {"Failure": errors.Failure.code.name}


def test_figures_are_those_of_the_results() -> None:
    """Every figure next to a link to the results is in the section that the link names."""
    results = (ROOT / "tests/bench/RESULTS.md").read_text()
    for one in pages():
        for paragraph in re.split(r"\n\s*\n", one.text):
            for anchor in re.findall(r"RESULTS\.md#(\w+)\)", paragraph):
                section = results.partition(f"## {anchor}\n")[2].partition("\n## ")[0]
                assert section, anchor
                for figure in _figures(paragraph):
                    assert _is_in(figure, results), f"{one.path}: {figure} is not in the results"


def _figures(paragraph: str) -> list[str]:
    """Numbers with a decimal point or a thousands separator. Others are often not figures."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", paragraph)
    return re.findall(r"(?<![\w.-])\d+(?:,\d{3})+|(?<![\w.,-])\d+\.\d+(?![\w-])", text)


def _is_in(figure: str, results: str) -> bool:
    plain = figure.replace(",", "")
    shares = {
        plain,
        f"{float(plain) / 100:.3f}",
        f"{float(plain) / 100:.4f}",
        f"{float(plain):.4f}",
    }
    return any(
        re.search(rf"(?<![\d.]){re.escape(one)}(?!\d)", results.replace(",", "")) for one in shares
    )


def test_the_pages_folder_has_nothing_else() -> None:
    kinds = {path.suffix for path in Path(ROOT / "docs").rglob("*") if path.is_file()}
    assert kinds <= {".md", ".png", ".svg"}
