"""The prompts of well-known models whose repositories do not configure them.

The source of each entry is the model's card on https://huggingface.co, and the file of the MTEB
benchmark that is named beside it (https://github.com/embeddings-benchmark/mteb, mteb/models).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

# Names under which models store the prompt for a task.
_CONFIGURED_NAMES = {"query": ("query",), "document": ("document", "passage", "corpus")}
_RELEVANT_PASSAGES = "Represent this sentence for searching relevant passages: "
_WEB_SEARCH = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
)
# A pattern for the last part of a name on the Hub, the prompt of queries, and that of documents.
_KNOWN = [
    # intfloat/e5-small-v2, intfloat/multilingual-e5-small and others: e5_models.py
    (r"(?:multilingual-)?e5-(?:small|base|large)(?:-v2|-unsupervised)?", "query: ", "passage: "),
    # intfloat/multilingual-e5-large-instruct, intfloat/e5-mistral-7b-instruct: e5_instruct.py
    (r"(?:multilingual-e5-large|e5-mistral-7b)-instruct", _WEB_SEARCH, ""),
    # BAAI/bge-small-en-v1.5 and BAAI/bge-small-zh-v1.5 and others: bge_models.py. bge-m3 has none.
    (r"bge-(?:small|base|large)-en(?:-v1\.5)?", _RELEVANT_PASSAGES, ""),
    (r"bge-(?:small|base|large)-zh(?:-v1\.5)?", "为这个句子生成表示以用于检索相关文章：", ""),
    # mixedbread-ai/mxbai-embed-large-v1: mxbai_models.py
    (r"mxbai-embed-large-v1", _RELEVANT_PASSAGES, ""),
    # Snowflake/snowflake-arctic-embed-m-v1.5 and others, and version 2: arctic_models.py
    (r"snowflake-arctic-embed-(?:xs|s|m|m-long|m-v1\.5|l)", _RELEVANT_PASSAGES, ""),
    (r"snowflake-arctic-embed-[ml]-v2\.0", "query: ", ""),
    # nomic-ai/nomic-embed-text-v1.5, nomic-ai/modernbert-embed-base and others: nomic_models.py
    (
        r"nomic-embed-text-v(?:1|1\.5|2-moe)|modernbert-embed-(?:base|large)",
        "search_query: ",
        "search_document: ",
    ),
]


@dataclass(frozen=True)
class Prompts:
    """The texts that precede each input.

    Attributes:
        query: for the task ``query``.
        document: for the task ``document``.
        default: for inputs without a task.
        known: whether ``query`` and ``document`` come from the table of this module.
    """

    query: str = ""
    document: str = ""
    default: str = ""
    known: bool = False

    @classmethod
    def of(
        cls, name: str, configured: Mapping[str, str | None] | None, default_name: str | None = None
    ) -> "Prompts":
        """Return the configured prompts of a model, or if there are none, those known by its name.

        Args:
            name: the name on the Hub, or a folder that ends with it.
            configured: the prompts by name in the model's configuration.
            default_name: the name of the prompt for inputs without a task.
        """
        found = {name: prompt for name, prompt in (configured or {}).items() if prompt}
        default = found.get(default_name or "", "")
        query, document = (
            next((found[one] for one in names if one in found), "")
            for names in _CONFIGURED_NAMES.values()
        )
        if query or document:
            return cls(query, document, default)
        return cls(*_known(name), default=default, known=any(_known(name)))

    def digest(self, model_digest: str) -> str:
        """Return the digest of a model with these prompts.

        Vectors of the same texts from a version that did not know the prompts differ.
        """
        if not self.known:
            return model_digest
        own = f"{model_digest} {self.query}|{self.document}"
        return hashlib.sha256(own.encode()).hexdigest()

    def for_task(self, task: str) -> str:
        """Return the prompt for ``query``, ``document`` or, without a task, an empty string."""
        return {"query": self.query, "document": self.document}.get(task, self.default)


def _known(name: str) -> tuple[str, str]:
    """Return the prompts of queries and of documents for a name; empty if it is not known.

    The cache of the Hub keeps ``owner/model`` in ``models--owner--model/snapshots/revision``.
    """
    parts = re.split(r"/|\\|--", name.lower())
    for pattern, query, document in _KNOWN:
        if any(re.fullmatch(pattern, part) for part in parts):
            return query, document
    return "", ""
