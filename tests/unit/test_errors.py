import grpc
import pytest

from services.errors import KINDS, Failure, NotFound


def test_a_failure_carries_what_programs_and_people_need() -> None:
    failure = NotFound("UNKNOWN", "There is no x.", field="x", retry_after=2, name="x", count=3)
    assert str(failure) == failure.message == "There is no x."
    assert (failure.reason, failure.field, failure.retry_after) == ("UNKNOWN", "x", 2)
    assert failure.metadata == {"name": "x", "count": "3"}


def test_long_metadata_is_cut() -> None:
    assert len(Failure("R", "M", text="x" * 1000).metadata["text"]) == 256


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_failure_with_its_own_code(kind: type[Failure]) -> None:
    assert issubclass(kind, Failure)
    name = "".join(f"_{one}" if one.isupper() else one.upper() for one in kind.__name__)[1:]
    assert kind.code.name == {"OVERLOADED": "RESOURCE_EXHAUSTED"}.get(name, name)


def test_no_code_belongs_to_two_kinds() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert grpc.StatusCode.INTERNAL not in codes
