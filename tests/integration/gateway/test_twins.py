"""TwinService over the demo's pictures and over the test data's memes."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from memetwin.gateway.v1 import twin_pb2, twin_pb2_grpc
from memetwin.search.v1 import search_pb2
from services.cli.load import DEMO, load_pictures
from tests.refusals import refusal
from tests.stack import Stack

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def twins(stack: Stack) -> twin_pb2_grpc.TwinServiceStub:
    load_pictures(stack.gateway, DEMO / "pictures")
    return twin_pb2_grpc.TwinServiceStub(stack.gateway)


@pytest.mark.parametrize("metric", ["COSINE", "IP", "L2"])
def test_a_visitor_finds_the_twin(twins: Any, metric: str) -> None:
    request = twin_pb2.FindTwinRequest(
        image=(DEMO / "visitor.jpg").read_bytes(),
        metric=search_pb2.Metric.Value(f"METRIC_{metric}"),
        limit=3,
    )
    found = twins.FindTwin(request).twins
    assert found[0].title == "Cat With A Deadline"
    assert len(found) == 3
    assert [one.distance for one in found] == sorted(one.distance for one in found)


def test_twins_are_found_by_their_titles(twins: Any) -> None:
    found = twins.FindTwin(twin_pb2.FindTwinRequest(text="a magician", limit=3)).twins
    assert found[0].title == "Wizard Cone"


def test_twins_are_added_once_listed_and_deleted(twins: Any) -> None:
    image = (DEMO / "pictures" / "Proud Toast.png").read_bytes()
    request = twin_pb2.AddTwinRequest(title="My Ünique Toast", image=image, tags=["toast"])
    added = twins.AddTwin(request)
    assert (added.twin.id, added.twin.media_type, added.created) == (
        "my-unique-toast",
        "image/png",
        True,
    )
    assert not twins.AddTwin(request).created
    picture = twins.GetPicture(twin_pb2.GetPictureRequest(id=added.twin.id))
    assert (picture.image, picture.media_type) == (image, "image/png")
    assert added.twin.id in {one.id for one in twins.ListTwins(twin_pb2.ListTwinsRequest()).twins}
    twins.DeleteTwin(twin_pb2.DeleteTwinRequest(id=added.twin.id))
    found = twins.FindTwin(twin_pb2.FindTwinRequest(image=image, limit=5)).twins
    assert added.twin.id not in {one.id for one in found}
    gone = twin_pb2.GetPictureRequest(id=added.twin.id)
    assert refusal(twins.GetPicture, gone)[1] == "TWIN_NOT_FOUND"


def test_bad_twin_calls_are_refused(twins: Any) -> None:
    find = twin_pb2.FindTwinRequest
    assert refusal(twins.FindTwin, find())[1] == "EMPTY_QUERY"
    assert refusal(twins.FindTwin, find(image=b"x"))[:2] == (INVALID, "NOT_A_PICTURE")
    unknown: Any = 9
    assert refusal(twins.FindTwin, find(image=b"x", metric=unknown))[1] == "UNKNOWN_METRIC"
    add = twin_pb2.AddTwinRequest(title="bad", image=b"no picture")
    assert refusal(twins.AddTwin, add)[1] == "NOT_A_PICTURE"
    assert refusal(twins.GetPicture, twin_pb2.GetPictureRequest(id="bad"))[1] == "TWIN_NOT_FOUND"


def test_every_meme_finds_itself(stack: Stack, data: Path) -> None:
    report = load_pictures(stack.gateway, data / "memes")
    assert report.loaded + report.unchanged == 72
    assert not report.problems
    again = load_pictures(stack.gateway, data / "memes")
    assert (again.loaded, again.unchanged) == (0, 72)
    stub = twin_pb2_grpc.TwinServiceStub(stack.gateway)
    for path in (data / "memes").iterdir():
        for metric in (search_pb2.METRIC_COSINE, search_pb2.METRIC_L2):
            request = twin_pb2.FindTwinRequest(image=path.read_bytes(), metric=metric, limit=1)
            assert stub.FindTwin(request).twins[0].title == path.stem
