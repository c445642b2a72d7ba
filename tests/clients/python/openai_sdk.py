"""The official client: chat, responses, parsing, embeddings and models."""

import os

import openai
from pydantic import BaseModel

QUESTION, ANSWER = os.environ["QUESTION"], os.environ["ANSWER"]


class Person(BaseModel):
    name: str
    age: int


client = openai.OpenAI(base_url=os.environ["BASE_URL"], api_key="any", max_retries=0)
raw = client.responses.with_raw_response.create(model="parrot", input=QUESTION)
assert raw.parse().output_text == ANSWER
assert raw.headers["x-memetwin-cache"] == "miss"
for _ in range(200):
    messages = [{"role": "user", "content": QUESTION}]
    again = client.chat.completions.with_raw_response.create(model="parrot", messages=messages)
    if again.headers["x-memetwin-cache"] == "hit-exact":
        break
assert again.headers["x-memetwin-cache"] == "hit-exact"
assert again.parse().choices[0].message.content == ANSWER

with client.responses.stream(model="parrot", input=QUESTION) as stream:
    texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert "".join(texts) == stream.get_final_response().output_text == ANSWER

asked = f"{QUESTION} As JSON."
parsed = client.responses.parse(model="parrot", input=asked, text_format=Person)
assert parsed.output_parsed == Person(name="Ada", age=36)
messages = [{"role": "user", "content": f"{QUESTION} Once more, as JSON."}]
chat = client.chat.completions.parse(model="parrot", messages=messages, response_format=Person)
assert chat.choices[0].message.parsed == Person(name="Ada", age=36)

data = client.embeddings.create(model="all-MiniLM-L6-v2", input=["a", " "]).data
assert [len(one.embedding) for one in data] == [384, 384]
assert {"parrot", "all-MiniLM-L6-v2"} <= {one.id for one in client.models.list()}
assert client.models.retrieve("all-MiniLM-L6-v2").object == "model"
