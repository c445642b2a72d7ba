from services.gateway.cache.gdsf import CURATED_COST, entry_cost, estimate_bytes, estimate_cost


def test_bytes_count_the_record_and_the_vector_in_search() -> None:
    base = estimate_bytes(b"", "")
    assert base > 1000  # keys, lists and links of the index
    assert estimate_bytes(b"x" * 100, "") == base + 100
    # 3 bytes of a vector take 4 in base64. Search holds float32 twice, which is 4 times float16.
    assert estimate_bytes(b"", "x" * 400) == base + 400 / 4 * 3 * 4


def test_the_cost_is_in_completion_tokens() -> None:
    assert estimate_cost({"completion_tokens": 8, "prompt_tokens": 4}, "ignored") == 9
    assert estimate_cost({"prompt_tokens": 4}, "ignored") == 1


def test_without_usage_the_length_of_the_response_counts() -> None:
    assert estimate_cost({}, "x" * 40) == 10
    assert estimate_cost({"completion_tokens": 0}, "x" * 4) == 1


def test_a_curated_entry_has_another_cost() -> None:
    record = {"usage": {"completion_tokens": 8}, "response": ""}
    assert entry_cost(record | {"id": "1f"}) == 8
    assert entry_cost(record | {"id": "curated-1f"}) == CURATED_COST
