"""The layout and the style of the code: sizes, mirrored unit tests, names, sleeps, randomness.

``docs/architecture.md`` gives the rules.
"""

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests import gone_names

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40
MIN_LOGIC_LINES = 40
MIN_TESTED_SHARE = 0.8
# Modules without logic, which only translate, wire or declare.
NO_LOGIC = ("__main__", "settings", "types", "wiring", "routes")
# Unit tests of benchmarks, of files that are not Python modules, or of the tree as a whole.
WITHOUT_A_MODULE = (
    "test_docs.py",
    "test_house.py",
    "test_installs.py",
    "bench/",
    "deploy/test_k8s.py",
    "docs/",
)
NO_LOGIC_SUFFIXES = ("servicer", "messages")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def require_none(found: Iterable[str]) -> None:
    """Fail with a list of everything that breaks a rule."""
    lines = list(found)
    assert not lines, "\n".join(["", *lines])


def test_no_file_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources("services", "deploy")}
    require_none(
        f"{path.relative_to(ROOT)}: {length} lines"
        for path, length in lengths.items()
        if length > MAX_FILE_LINES
    )


def test_no_function_is_too_long() -> None:
    require_none(
        f"{place(path, node)}: {node.name} has {length} lines"
        for path in sources("services", "deploy")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (length := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    )


def modules_with_logic() -> list[Path]:
    return [
        path
        for path in sources("services")
        if len(path.read_text().splitlines()) > MIN_LOGIC_LINES
        and path.stem not in NO_LOGIC
        and not path.stem.endswith(NO_LOGIC_SUFFIXES)
        and "cli" not in path.relative_to(ROOT).parts
    ]


def test_modules_with_logic_have_unit_tests_of_their_name() -> None:
    modules = modules_with_logic()
    untested = [str(path.relative_to(ROOT)) for path in modules if not unit_test_of(path).exists()]
    share = 1 - len(untested) / len(modules)
    assert share >= MIN_TESTED_SHARE, (
        f"{share:.0%} of {len(modules)} modules have a unit test; these have none: {untested}"
    )


def unit_test_of(module: Path) -> Path:
    inner = module.relative_to(ROOT)
    inner = inner.relative_to("services") if inner.parts[0] == "services" else inner
    return ROOT / "tests" / "unit" / inner.with_name(f"test_{module.name}")


def test_every_unit_test_mirrors_a_module() -> None:
    mirrors = {unit_test_of(module) for module in sources("services", "deploy", "tools")}
    require_none(
        str(path.relative_to(ROOT))
        for path in sources("tests/unit")
        if path.name.startswith("test_") and path not in mirrors
        if not str(path.relative_to(ROOT / "tests" / "unit")).startswith(WITHOUT_A_MODULE)
    )


@functools.cache
def identifiers(path: Path) -> list[tuple[ast.AST, str]]:
    """Return the names that code defines or uses, without words of prose."""
    return list(_identifiers(parse(path)))


def _identifiers(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield node, name
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield node, name
            case ast.AsyncFunctionDef(name=name):
                yield node, name
            case ast.keyword(arg=str(name)):
                yield node, name
            case ast.alias(name=name, asname=asname):
                yield from ((node, part) for part in name.split("."))
                if asname:
                    yield node, asname


def imported_modules(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Yield the dotted names of everything imported from the services."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("services"):
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)
        if isinstance(node, ast.Import):
            yield from (
                (node, alias.name) for alias in node.names if alias.name.startswith("services")
            )


def test_no_module_has_a_name_that_is_gone() -> None:
    require_none(
        str(path.relative_to(ROOT))
        for path in sources("services")
        if path.stem in gone_names.MODULES
    )
    require_none(
        f"{place(path, node)}: {name}"
        for path in sources("services", "tests", "deploy", "tools")
        for node, name in imported_modules(parse(path))
        if gone_names.MODULES & set(name.split("."))
    )


def test_no_class_has_a_name_that_is_gone() -> None:
    require_none(
        f"{place(path, node)}: {name}"
        for path in sources("services", "tests", "deploy", "tools")
        for node, name in identifiers(path)
        if name in gone_names.CLASSES
    )


def test_no_identifier_of_the_services_is_a_word_that_is_gone() -> None:
    require_none(
        f"{place(path, node)}: {name}"
        for path in sources("services")
        for node, name in identifiers(path)
        if name.strip("_") in gone_names.WORDS
    )


def calls(path: Path) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def test_no_unit_test_sleeps() -> None:
    """``asyncio.sleep(0)`` lets ready tasks run; any other sleep waits by the clock."""
    require_none(
        place(path, node)
        for path in sources("tests/unit")
        for node, function in calls(path)
        if function.rpartition(".")[2] == "sleep"
        and not (node.args and isinstance(node.args[0], ast.Constant) and not node.args[0].value)
    )


@pytest.mark.parametrize("generator", ["random.Random", "np.random.default_rng"])
def test_no_unit_test_draws_unseeded_numbers(generator: str) -> None:
    family = generator.rpartition(".")[0]
    require_none(
        f"{place(path, node)}: {function}"
        for path in sources("tests/unit")
        for node, function in calls(path)
        if function.startswith(f"{family}.") and "(" not in function
        if not (function == generator and node.args)
    )
