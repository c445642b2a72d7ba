from services.gateway.cache.gdsf import estimate_bytes, estimate_cost


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
