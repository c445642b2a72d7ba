import pytest
from google.rpc import error_details_pb2

from services import error_details
from services.errors import KINDS, InvalidArgument, Overloaded


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_survives_the_wire(kind: type[InvalidArgument]) -> None:
    failure = kind("REASON", "What to do.", field="inputs[3]", retry_after=1.5, size=7)
    back = error_details._from_status(error_details.to_status(failure))
    assert type(back) is kind
    assert vars(back) == vars(failure)


def test_the_retry_hint_is_a_trailer_too() -> None:
    trailers = dict(error_details.trailers(Overloaded("FULL", "Wait.", retry_after=0.25)))
    assert trailers["grpc-retry-pushback-ms"] == "250"


def test_details_are_left_out_where_they_do_not_apply() -> None:
    details = error_details.to_status(InvalidArgument("R", "M")).details
    assert len(details) == 1
    assert details[0].Is(error_details_pb2.ErrorInfo.DESCRIPTOR)
