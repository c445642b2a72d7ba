import json

import pytest
from google.rpc import error_details_pb2

from services import error_details
from services.errors import KINDS, Failure, InvalidArgument, NotFound, Overloaded


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_survives_the_wire(kind: type[InvalidArgument]) -> None:
    failure = kind("REASON", "What to do.", field="inputs[3]", retry_after=1.5, size=7)
    back = error_details._from_status(error_details.to_status(failure))
    assert type(back) is kind
    assert vars(back) == vars(failure)


@pytest.mark.parametrize("kind", [Failure, *KINDS])
def test_a_failure_survives_json(kind: type[Failure]) -> None:
    failure = kind("REASON", "What to do.", field="inputs[3]", retry_after=1.5, size=7)
    failure.metadata |= {"field": "a name of the constructor's", "long": "x" * 1000}
    back = error_details.from_dict(json.loads(json.dumps(error_details.to_dict(failure))))
    assert type(back) is kind
    assert vars(back) == vars(failure)


def test_an_older_replica_may_leave_parts_out() -> None:
    data = {"code": "NOT_FOUND", "reason": "GONE", "message": "It is gone."}
    back = error_details.from_dict(data)
    assert vars(back) == vars(NotFound("GONE", "It is gone."))
    assert type(error_details.from_dict(data | {"code": "A_LATER_CODE"})) is Failure


def test_the_retry_hint_is_a_trailer_too() -> None:
    trailers = dict(error_details.trailers(Overloaded("FULL", "Wait.", retry_after=0.25)))
    assert trailers["grpc-retry-pushback-ms"] == "250"


def test_details_are_left_out_where_they_do_not_apply() -> None:
    details = error_details.to_status(InvalidArgument("R", "M")).details
    assert len(details) == 1
    assert details[0].Is(error_details_pb2.ErrorInfo.DESCRIPTOR)
