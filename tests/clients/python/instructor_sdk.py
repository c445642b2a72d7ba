"""Instructor with its default mode, which calls a tool, and with JSON."""

import os

import instructor
import openai
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


client = openai.OpenAI(base_url=os.environ["BASE_URL"], api_key="any", max_retries=0)
for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON, instructor.Mode.JSON_SCHEMA):
    person = instructor.from_openai(client, mode=mode).chat.completions.create(
        model="parrot",
        messages=[{"role": "user", "content": f"{os.environ['QUESTION']} {mode} As JSON."}],
        response_model=Person,
        max_retries=0,
    )
    assert (person.name, person.age) == ("Ada", 36)
