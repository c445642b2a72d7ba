"""Fuzzed names, ids, filters and values cause only canonical errors and damage no data."""

import random
from collections import Counter
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from memetwin.search.v1 import search_pb2
from tests.search_client import Stub, create, search, upsert

BYTES = 200_000
CALLER_ERRORS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
}
FOREIGN = ("ERR", "WRONGTYPE", "Syntax error", "offset", "redis.", "Traceback", "Lua", "script")
HOSTILE = [
    *(
        "'",
        '"',
        "\\",
        "{",
        "}",
        "|",
        "-",
        ",",
        "@",
        "*",
        "(",
        ")",
        "=>",
        "[KNN 1 @v $b]",
        "$b",
        "%",
    ),
    *(
        "\x00",
        "\n",
        "\r\n",
        "\x1f",
        " ",
        "é",
        "漢字",
        "\u202e",
        "😀",
        "AND",
        "not",
        ".e",
        "inf",
        "nan",
    ),
    *("*3\r\n$3\r\nSET\r\n", "{c}:record", "..", "/", "EVAL", "DROPINDEX", "a" * 200),
]
FIELDS = {
    "n": search_pb2.FIELD_TYPE_NUMBER,
    "t": search_pb2.FIELD_TYPE_TAG,
    "w": search_pb2.FIELD_TYPE_TEXT,
    "g": search_pb2.FIELD_TYPE_GEO,
}


class Fuzz:
    """Makes hostile strings and messages, and counts their bytes."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.byte_count = 0

    def text(self) -> str:
        parts = self._random.choices(HOSTILE, k=self._random.randint(0, 12))
        text = "".join(parts)
        self.byte_count += len(text.encode())
        return text

    def name(self) -> str:
        return self._random.choice([*FIELDS, self.text()])

    def number(self) -> float:
        return self._random.choice([0.0, -1e308, 1e-320, float("nan"), float("inf"), 3.5])

    def value(self) -> search_pb2.FieldValue:
        kind = self._random.randrange(4)
        if kind == 0:
            return search_pb2.FieldValue(number=self.number())
        if kind == 1:
            return search_pb2.FieldValue(string=self.text())
        if kind == 2:
            values = [self.text() for _ in range(self._random.randrange(4))]
            return search_pb2.FieldValue(strings=search_pb2.Strings(values=values))
        place = search_pb2.GeoPoint(lat=self.number(), lon=self.number())
        return search_pb2.FieldValue(geo=place)

    def filter(self, depth: int = 0) -> search_pb2.Filter:
        kind = self._random.randrange(6 if depth < 5 else 4)
        if kind == 0:
            tags = [self.text() for _ in range(3)]
            return search_pb2.Filter(tag=search_pb2.TagCondition(field=self.name(), any_of=tags))
        if kind == 1:
            text = search_pb2.TextCondition(field=self.name(), matches=self.text())
            return search_pb2.Filter(text=text)
        if kind == 2:
            number = search_pb2.NumberCondition(
                field=self.name(), op=self._operator(), values=[self.number()]
            )
            return search_pb2.Filter(number=number)
        if kind == 3:
            return search_pb2.Filter(exists=search_pb2.ExistsCondition(field=self.name()))
        inner = search_pb2.Filters(filters=[self.filter(depth + 1) for _ in range(kind - 3)])
        return search_pb2.Filter(none_of=inner) if kind == 4 else search_pb2.Filter(any_of=inner)

    def _operator(self) -> Any:
        return self._random.randrange(12)

    def document(self) -> search_pb2.Document:
        vector = np.random.default_rng(self.byte_count).normal(size=4).astype("<f4").tobytes()
        fields = {self.name(): self.value() for _ in range(self._random.randrange(3))}
        return search_pb2.Document(
            id=self.text(), vector=vector, fields=fields, text=self.text(), payload=b"\0\xff"
        )

    def calls(self, stub: Any, name: str) -> list[tuple[Any, Any]]:
        """Return each kind of call once, with fuzzed arguments."""
        row = np.ones(4, "<f4").tobytes()
        by_vector = search_pb2.Query(vector=row, filter=self.filter())
        by_words = search_pb2.Query(text=self.text(), filter=self.filter())
        by_id = search_pb2.Query(document_id=self.text())
        grouped = search_pb2.Query(vector=row, group_by=search_pb2.GroupBy(field=self.name()))
        chosen = search_pb2.Query(vector=row, return_fields=[self.name()])
        made = search_pb2.Collection(
            name=self.text(),
            dimensions=4,
            fields=[search_pb2.Field(name=self.text(), type=search_pb2.FIELD_TYPE_TAG)],
        )
        update = search_pb2.FieldsUpdate(id=self.text(), fields={self.name(): self.value()})
        return [
            (stub.CreateCollection, search_pb2.CreateCollectionRequest(collection=made)),
            (stub.GetCollection, search_pb2.GetCollectionRequest(name=self.text())),
            (
                stub.UpsertDocuments,
                search_pb2.UpsertDocumentsRequest(collection=name, documents=[self.document()]),
            ),
            *(
                (stub.Search, search_pb2.SearchRequest(collection=name, queries=[query]))
                for query in (by_vector, by_words, by_id, grouped, chosen)
            ),
            (
                stub.GetDocuments,
                search_pb2.GetDocumentsRequest(collection=name, ids=[self.text()]),
            ),
            (
                stub.ListDocuments,
                search_pb2.ListDocumentsRequest(
                    collection=name, filter=self.filter(), page_token=self.text()
                ),
            ),
            (
                stub.DeleteDocuments,
                search_pb2.DeleteDocumentsRequest(collection=name, filter=self.filter()),
            ),
            (
                stub.UpdateFields,
                search_pb2.UpdateFieldsRequest(collection=name, updates=[update]),
            ),
            (
                stub.AssignAlias,
                search_pb2.AssignAliasRequest(alias=self.text(), collection=self.text()),
            ),
            (
                stub.Search,
                search_pb2.SearchRequest(collection=self.text(), queries=[by_vector]),
            ),
        ]


@pytest.mark.parametrize("seed", range(2))
def test_only_caller_errors_are_returned_and_no_data_is_damaged(stub: Stub, seed: int) -> None:
    fields = [search_pb2.Field(name=name, type=kind) for name, kind in FIELDS.items()]
    name, safe = create(stub, fields=fields), create(stub)
    upsert(stub, safe, np.eye(4), text="safe")
    fuzz, codes = Fuzz(seed), Counter[Any]()
    written: dict[str, search_pb2.Document] = {}
    while fuzz.byte_count < BYTES / 2:
        for call, request in fuzz.calls(stub, name):
            error = _error_of(call, request)
            codes[error.code() if error else grpc.StatusCode.OK] += 1
            if error:
                assert error.code() in CALLER_ERRORS, (request, error)
                _assert_canonical(error)
            elif call is stub.UpsertDocuments:
                written |= {one.id: one for one in request.documents}
    assert codes[grpc.StatusCode.OK] > 50
    assert codes[grpc.StatusCode.INVALID_ARGUMENT] > 50
    assert search(stub, safe, [[0, 1, 0, 0]])[0][0].id == "d1"
    assert written
    ids = list(written)
    got = stub.GetDocuments(
        search_pb2.GetDocumentsRequest(collection=name, ids=ids, return_vector=True)
    )
    assert {one.id: one for one in got.documents} == written
    query = search_pb2.Query(vector=np.ones(4, "<f4").tobytes(), limit=10_000, exact=True)
    reply = stub.Search(search_pb2.SearchRequest(collection=name, queries=[query]))
    assert {hit.id for hit in reply.results[0].hits} == set(written)


def _error_of(call: Any, request: Any) -> Any:
    """Make a call; return its error, or None."""
    try:
        call(request, timeout=30)
    except grpc.RpcError as error:
        return error
    return None


def _assert_canonical(error: Any) -> None:
    assert not any(word in error.details() for word in FOREIGN), error.details()
    status, info = rpc_status.from_call(error), error_details_pb2.ErrorInfo()
    assert status is not None
    assert any(detail.Unpack(info) for detail in status.details)
    assert info.domain == "memetwin"
    assert info.reason.isupper()
