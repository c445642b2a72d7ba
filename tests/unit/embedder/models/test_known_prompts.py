import pytest

from services.embedder.models.known_prompts import Prompts

INSTRUCTION = "Represent this sentence for searching relevant passages: "


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("intfloat/multilingual-e5-small", "query: ", "passage: "),
        ("intfloat/e5-base-v2", "query: ", "passage: "),
        ("/models/e5-large", "query: ", "passage: "),
        ("C:\\models\\E5-Large", "query: ", "passage: "),
        ("BAAI/bge-small-en-v1.5", INSTRUCTION, ""),
        ("/cache/models--BAAI--bge-base-en-v1.5/snapshots/a5be", INSTRUCTION, ""),
        ("Snowflake/snowflake-arctic-embed-m-v1.5", INSTRUCTION, ""),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "query: ", ""),
        ("nomic-ai/nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("nomic-ai/modernbert-embed-base", "search_query: ", "search_document: "),
        ("BAAI/bge-m3", "", ""),
        ("Alibaba-NLP/gte-modernbert-base", "", ""),
        ("ibm-granite/granite-embedding-small-english-r2", "", ""),
        ("all-MiniLM-L6-v2", "", ""),
        ("me/bge-small-en-v1.5-for-law", "", ""),
    ],
)
def test_prompts_are_known_by_the_name_of_the_model(name: str, query: str, document: str) -> None:
    prompts = Prompts.of(name, {"query": "", "document": None})
    assert (prompts.query, prompts.document) == (query, document)
    assert prompts.known is bool(query)


@pytest.mark.parametrize(
    ("configured", "query", "document"),
    [
        ({"query": "q: "}, "q: ", ""),
        ({"passage": "p: "}, "", "p: "),
        ({"document": "", "corpus": "c: "}, "", "c: "),
        ({"document": "d: ", "passage": "p: "}, "", "d: "),
    ],
)
def test_configured_prompts_go_first(
    configured: dict[str, str | None], query: str, document: str
) -> None:
    prompts = Prompts.of("intfloat/e5-small", configured)
    assert (prompts.query, prompts.document, prompts.known) == (query, document, False)


def test_an_input_without_a_task_has_the_default_prompt() -> None:
    prompts = Prompts.of("m", {"query": "q: ", "sts": "s: "}, "sts")
    assert [prompts.for_task(task) for task in ("query", "document", "")] == ["q: ", "", "s: "]
    assert Prompts.of("m", {"query": "q: "}).for_task("") == ""
