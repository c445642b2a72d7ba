"""LlamaIndex's models for servers with OpenAI's API."""

import os

from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

QUESTION, ANSWER = os.environ["QUESTION"], os.environ["ANSWER"]
options = {"api_base": os.environ["BASE_URL"], "api_key": "any", "max_retries": 0}
model = OpenAILike(model="parrot", is_chat_model=True, **options)
messages = [ChatMessage(role="user", content=QUESTION)]
assert model.chat(messages).message.content == ANSWER
assert model.complete(QUESTION).text == ANSWER
assert [*model.stream_chat(messages)][-1].message.content == ANSWER
embedding = OpenAILikeEmbedding(model_name="all-MiniLM-L6-v2", **options)
assert len(embedding.get_text_embedding("a")) == 384
