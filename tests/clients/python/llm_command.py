"""The ``llm`` command with a model of its configuration file."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

QUESTION, ANSWER = os.environ["QUESTION"], os.environ["ANSWER"]
with tempfile.TemporaryDirectory() as folder:
    line = f"- model_id: parrot\n  model_name: parrot\n  api_base: {os.environ['BASE_URL']}\n"
    (Path(folder) / "extra-openai-models.yaml").write_text(line)
    command = [sys.executable, "-m", "llm", "-m", "parrot", "--key", "any", QUESTION]
    for option in ([], ["--no-stream"]):
        done = subprocess.run(
            [*command, *option],
            env={**os.environ, "LLM_USER_PATH": folder},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.strip() == ANSWER, done.stdout + done.stderr
