"""A gateway in front of a stand-in language model, as clients see it."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.language_model import Json, question_of, quote, running
from tests.stack import Stack, wait_until_ready

PERSON = '{"name": "Ada", "age": 36}'


def answer(body: Json) -> str:
    """Quote the question, or describe a person if it asks for JSON."""
    question = question_of(body)
    return PERSON if "as json" in str(body["messages"]).lower() else quote(question)


@pytest.fixture(scope="package")
def clients_stack(redis_url: str, prefix: str) -> Iterator[Stack]:
    """A stack that decodes the token ids of OpenAI's encoding."""
    with running(answer) as model:
        stack = Stack(
            redis_url,
            f"{prefix}clients:",
            llm_base_url=model.url,
            llm_model="parrot",
            embedding_tokens="cl100k_base",
        )
        wait_until_ready(stack)
        try:
            yield stack
        finally:
            stack.close()


@pytest.fixture
def environment(clients_stack: Stack) -> dict[str, str]:
    """What a client knows: the addresses, a new question, and its answer."""
    question = f"What is {uuid.uuid4()}?"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return kept | {
        "BASE_URL": f"http://{clients_stack.http_address}/v1",
        "GRPC_ADDRESS": clients_stack.gateway_address,
        "PROTOS": str(Path(ROOT) / "protos"),
        "QUESTION": question,
        "ANSWER": quote(question),
        "no_proxy": "127.0.0.1",
        "HF_HUB_OFFLINE": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
