from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from memetwin.search.v1 import search_pb2
from services.gateway.forwarding import names

SERVICE = search_pb2.DESCRIPTOR.services_by_name["SearchService"]
# Every text of SearchService that names no collection. A new field must be added here or to FIELDS.
OTHER = {
    "Collection": {"model_digest"},
    "Document": {"id", "text"},
    "ExistsCondition": {"field"},
    "Field": {"name"},
    "FieldValue": {"string"},
    "FieldsEntry": {"key"},
    "FieldsUpdate": {"id", "remove"},
    "GeoCondition": {"field"},
    "GetDocumentsRequest": {"ids"},
    "GetDocumentsResponse": {"missing"},
    "DeleteDocumentsResponse": {"sample"},
    "GroupBy": {"field"},
    "Hit": {"id", "text"},
    "HybridQuery": {"text"},
    "Ids": {"values"},
    "IndexHealth": {"warnings"},
    "ListCollectionsRequest": {"name_prefix", "page_token"},
    "ListCollectionsResponse": {"next_page_token"},
    "ListDocumentsRequest": {"page_token"},
    "ListDocumentsResponse": {"next_page_token"},
    "NumberCondition": {"field"},
    "Query": {"document_id", "text", "return_fields"},
    "Receipt": {"id", "reason", "message"},
    "Result": {"partial_reason", "explanation"},
    "SearchRequest": {"model_digest"},
    "Server": {"version", "warnings"},
    "Strings": {"values"},
    "SvsVamanaIndex": {"compression"},
    "TagCondition": {"field", "any_of"},
    "TextCondition": {"field", "matches"},
    "UpdateCollectionRequest": {"model_digest"},
    "UpsertDocumentsRequest": {"model_digest"},
    "UpsertStreamRequest": {"model_digest"},
}


def types() -> Iterator[Descriptor]:
    """Every type of message that SearchService sends or receives."""
    pending = [one for method in SERVICE.methods for one in (method.input_type, method.output_type)]
    seen: set[str] = set()
    while pending:
        found = pending.pop()
        if found.full_name not in seen:
            seen.add(found.full_name)
            yield found
            pending += [field.message_type for field in found.fields if field.message_type]


def test_every_text_of_search_is_known_to_name_a_collection_or_not() -> None:
    for one in types():
        texts = {field.name for field in one.fields if field.type == FieldDescriptor.TYPE_STRING}
        known = set(names.FIELDS.get(one.name, "").split())
        other = OTHER.get(one.name, set())
        assert not known & other
        assert texts == known | other, f"{one.name}: put each text into FIELDS or into OTHER"


def test_every_request_names_collections() -> None:
    without = [one.name for one in SERVICE.methods if not names.have_names(one.input_type)]
    assert without == ["ListCollections"]
    assert not names.have_names(search_pb2.SearchResponse.DESCRIPTOR)
    assert not names.have_names(search_pb2.Filter.DESCRIPTOR)


def test_names_are_translated_wherever_they_are() -> None:
    paths: list[str] = []

    def translation(name: str, path: str) -> str:
        paths.append(path)
        return f"tenant-{name}"

    request = search_pb2.SearchRequest(
        collection="a", queries=[search_pb2.Query(text="a"), search_pb2.Query(collection="b")]
    )
    names.translate(request, translation)
    assert request.collection == "tenant-a"
    assert [one.collection for one in request.queries] == ["", "tenant-b"]
    assert request.queries[0].text == "a"
    assert paths == ["collection", "queries[1].collection"]
    created = search_pb2.CreateCollectionRequest(collection=search_pb2.Collection(name="c"))
    names.translate(created, translation)
    assert created.collection.name == "tenant-c"
    assert paths[-1] == "collection.name"


def test_names_of_others_are_removed() -> None:
    reply = search_pb2.GetCollectionResponse(
        collection=search_pb2.Collection(name="mine-a", aliases=["mine-b", "other"])
    )
    own = {"mine-a": "a", "mine-b": "b"}
    names.translate(reply, lambda name, _: own.get(name, ""))
    assert (reply.collection.name, list(reply.collection.aliases)) == ("a", ["b"])
