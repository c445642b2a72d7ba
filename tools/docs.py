"""Writes the generated parts of the documentation: ``python -m tools.docs``, or ``make docs``.

A generated part is between ``<!-- generated: NAME -->`` and ``<!-- end -->``.
"""

import ast
import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from services.embedder.settings import Settings as EmbedderSettings
from services.gateway.settings import Settings as GatewaySettings
from services.search.settings import Settings as SearchSettings
from services.settings import CommonSettings

ROOT = Path(__file__).parents[1]
SERVICES: dict[str, type[CommonSettings]] = {
    "gateway": GatewaySettings,
    "embedder": EmbedderSettings,
    "search": SearchSettings,
}
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.S)
_PROTO_ITEM = re.compile(r"((?:^ *//.*\n)+)^ *(service|rpc) (\w+)[ (]", re.M)


def settings_table() -> str:
    """Return the table of all settings: name, default, service and help."""
    rows: dict[str, tuple[str, list[str], str]] = {}
    for service, kind in SERVICES.items():
        for field in dataclasses.fields(kind):
            name, doc = field.metadata["env"], field.metadata["doc"]
            default = f"`{field.default}`" if field.default not in ("", None) else "none"
            rows.setdefault(name, (default, [], doc))[1].append(service)
    lines = ["| setting | default | read by | meaning |", "|---|---|---|---|"]
    for name, (default, services, doc) in sorted(rows.items()):
        who = "all services" if len(services) == len(SERVICES) else ", ".join(services)
        lines.append(f"| `{name}` | {default} | {who} | {doc} |")
    return "\n".join(lines)


def rpcs_table() -> str:
    """Return a section for each service with a line for each method, from the protos' comments."""
    lines: list[str] = []
    for proto in sorted((ROOT / "protos/memetwin").rglob("*.proto")):
        text = proto.read_text()
        package = re.findall(r"^package (.*);", text, re.M)[0]
        for comment, kind, name in _PROTO_ITEM.findall(text):
            if kind == "service":
                lines += ["", f"### {name}", "", f"`{package}.{name}`. {_first(comment)}", ""]
                lines += ["| method | what it does |", "|---|---|"]
            else:
                lines.append(f"| `{name}` | {_first(comment)} |")
    return "\n".join(lines[1:])


def metrics_table() -> str:
    """Return the table of all metrics: name and help."""
    rows = sorted(row for path in (ROOT / "services").rglob("*.py") for row in _metrics(path))
    lines = ["| metric | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {doc} |" for name, doc in rows]
    return "\n".join(lines)


def tree() -> str:
    """Return the tree of all services and tools, with the first line of each module's docstring."""
    lines = ["```text"]
    for top in ("services", "tools"):
        lines += [f"{top}/", *_tree(ROOT / top, 1)]
    return "\n".join([*lines, "```"])


def _tree(folder: Path, depth: int) -> Iterator[str]:
    """Yield a line for each module of a folder, then the lines of its sub-folders."""
    indent = "  " * depth
    for path in sorted(folder.glob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        yield f"{indent}{path.stem:<{32 - len(indent)}} {doc.partition(chr(10))[0]}"
    for path in sorted(path for path in folder.iterdir() if any(path.rglob("*.py"))):
        yield f"{indent}{path.name}/"
        yield from _tree(path, depth + 1)


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "rpcs": rpcs_table,
    "metrics": metrics_table,
    "tree": tree,
}


def rendered(text: str) -> str:
    """Return a page with its generated parts updated."""
    return _PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n\n{part[3]}", text)


def _first(comment: str) -> str:
    """Return the first sentence of a proto comment."""
    text = " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
    return re.split(r"(?<=[.])\s", text.strip(), maxsplit=1)[0]


def _metrics(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the help of each Prometheus metric that a module declares."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and len(node.args) > 1:
            name, doc = (getattr(argument, "value", None) for argument in node.args[:2])
            if isinstance(name, str) and isinstance(doc, str) and name.startswith("memetwin_"):
                yield name, doc


def main() -> None:
    """Write every page that has generated parts."""
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text()
        if (new := rendered(text)) != text:
            path.write_text(new)


if __name__ == "__main__":
    main()
