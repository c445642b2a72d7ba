"""LangChain's embeddings with their defaults, which send token ids, and with texts."""

import os

import numpy as np
from langchain_openai import OpenAIEmbeddings

options = {
    "base_url": os.environ["BASE_URL"],
    "api_key": "any",
    "model": "all-MiniLM-L6-v2",
    "max_retries": 0,
}
texts = ["How do I turn on dark mode?", "Grüße aus Köln 🙂", "a " * 600]
tokens = np.array(OpenAIEmbeddings(**options).embed_documents(texts))
plain = OpenAIEmbeddings(**options, check_embedding_ctx_length=False)
assert np.allclose(tokens, np.array(plain.embed_documents(texts)), atol=1e-2)
assert np.allclose(tokens[0], plain.embed_query(texts[0]), atol=1e-2)
