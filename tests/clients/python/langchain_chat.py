"""LangChain's chat model with its defaults, and with the Responses API."""

import os

from langchain_openai import ChatOpenAI

QUESTION, ANSWER = os.environ["QUESTION"], os.environ["ANSWER"]
options = {
    "base_url": os.environ["BASE_URL"],
    "api_key": "any",
    "model": "parrot",
    "max_retries": 0,
}
chat = ChatOpenAI(**options)
assert chat.invoke(QUESTION).content == ANSWER
assert "".join(chunk.content for chunk in chat.stream(QUESTION)) == ANSWER

responses = ChatOpenAI(**options, use_responses_api=True)
reply = responses.invoke(QUESTION)
assert reply.text == ANSWER
assert "".join(chunk.text for chunk in responses.stream(QUESTION)) == ANSWER
# A conversation, with the earlier answer as LangChain keeps it.
assert "Why?" in responses.invoke([("user", QUESTION), reply, ("user", f"{QUESTION} Why?")]).text


def f() -> str:
    """F."""
    return "result"


for one in (chat, responses):
    called = one.bind_tools([f]).invoke(f"tool {QUESTION}")
    assert [call["name"] for call in called.tool_calls] == ["f"]
