from services.gateway.cache.error_budget.lru import LruDict


def test_the_value_used_least_recently_is_forgotten() -> None:
    values: LruDict[int] = LruDict(2)
    assert values.put("a", 1) == 1
    values.put("b", 2)
    values.put("a", 3)
    values.put("c", 4)
    assert (values.get("a"), values.get("b"), values.get("c")) == (3, None, 4)


def test_a_popped_value_is_gone() -> None:
    values: LruDict[int] = LruDict(2)
    values.put("a", 1)
    assert values.pop("a") == 1
    assert values.pop("a") is None
