"""LiteLLM's SDK: chat, responses and embeddings."""

import os

import litellm

QUESTION, ANSWER = os.environ["QUESTION"], os.environ["ANSWER"]
options = {"api_base": os.environ["BASE_URL"], "api_key": "any"}
messages = [{"role": "user", "content": QUESTION}]
chat = litellm.completion(model="openai/parrot", messages=messages, **options)
assert chat.choices[0].message.content == ANSWER
chunks = litellm.completion(model="openai/parrot", messages=messages, stream=True, **options)
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
response = litellm.responses(model="openai/parrot", input=QUESTION, **options)
assert response.output[0].content[0].text == ANSWER
data = litellm.embedding(model="openai/all-MiniLM-L6-v2", input=["a"], **options).data
assert len(data[0]["embedding"]) == 384
