"""Writes the pinned requirements of the images, with hashes: ``make lock``.

The versions are those of ``deploy/constraints.txt``, which are tested together. PyTorch and the
packages of its CUDA builds are left out, because an image may use another build of PyTorch.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "requirements"
EXTRAS = ("gateway", "search", "embedder", "cli")
_PYTORCH = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)==")
_OPTIONS = [
    *("--universal", "--python-version", "3.11", "--generate-hashes"),
    *("--no-header", "--no-annotate", "--quiet", "--constraint", "deploy/constraints.txt"),
]


def without_pytorch(text: str) -> str:
    """Return requirements without those of PyTorch. A line that is indented is a hash."""
    requirements = re.split(r"\n(?=\S)", text.strip())
    return "\n".join(one for one in requirements if not _PYTORCH.match(one)) + "\n"


def main(uv: str) -> None:
    """Write a file for each image and for the command line."""
    FOLDER.mkdir(exist_ok=True)
    for extra in EXTRAS:
        done = subprocess.run(
            [uv, "pip", "compile", "pyproject.toml", "--extra", extra, *_OPTIONS],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        (FOLDER / f"{extra}.txt").write_text(without_pytorch(done.stdout))


if __name__ == "__main__":
    main(sys.argv[1])
