"""Fills the requests of any rpc with a tenant's names, by the names of their fields.

A text or bytes field that ``VALUES`` does not know is an error, so that no new field is forgotten.
"""

from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor

from tests.attacks.names import Names

Value = Callable[[Names, str], Any]
_TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def _none(names: Names, rpc: str) -> None:
    return None


def _collection(names: Names, rpc: str) -> str:
    return names.search_collection if rpc.startswith("SearchService") else names.collection


def _name(names: Names, rpc: str) -> str:
    return names.model if rpc.startswith("EmbedderService") else names.search_collection


def _id(names: Names, rpc: str) -> str:
    service = rpc.partition("/")[0]
    return {
        "CacheService": names.entry,
        "RagService": names.document,
        "TwinService": names.twin,
        "SearchService": names.chunk,
    }[service]


def _prompt(names: Names, rpc: str) -> str:
    return names.prompt


# What an attack sends in a field, by the message and the field, or by the field. None sends
# nothing. Numbers, booleans and enumerations without a value here keep their defaults.
VALUES: dict[str, Value] = {
    "tenant": lambda names, rpc: names.tenant if names.claims_tenant else None,
    "user": lambda names, rpc: names.user,
    "namespace": lambda names, rpc: names.namespace,
    "collection": _collection,
    "additional_collections": _collection,
    "name": _name,
    "name_prefix": lambda names, rpc: names.search_collection,
    "Field.name": lambda names, rpc: "kind",
    "alias": lambda names, rpc: names.alias,
    "id": _id,
    "ids": _id,
    "TokenIds.ids": lambda names, rpc: 101,
    "values": _id,
    "document_id": _id,
    "source": lambda names, rpc: names.document,
    "prompt": _prompt,
    "text": _prompt,
    "texts": _prompt,
    "query": _prompt,
    "question": _prompt,
    "content": _prompt,
    "one": _prompt,
    "other": _prompt,
    "prompt_contains": lambda names, rpc: names.namespace.partition("-")[0],
    "image": lambda names, rpc: names.picture,
    "GetFeatureMapsRequest.image": lambda names, rpc: names.callers_picture,
    "AddTwinRequest.image": lambda names, rpc: names.callers_picture,
    "audio": _none,
    "vector": lambda names, rpc: names.vector,
    "model_digest": lambda names, rpc: names.digest,
    "context_fingerprint": lambda names, rpc: names.fingerprint,
    "cites": lambda names, rpc: names.cite,
    "request_id": lambda names, rpc: names.request_id,
    "page_token": lambda names, rpc: names.tokens.get(rpc),
    "response": lambda names, rpc: "an answer of the caller",
    "title": lambda names, rpc: "a title of the caller",
    "tags": lambda names, rpc: "tag of the caller",
    "payload": lambda names, rpc: b"of the caller",
    "IngestDocumentsRequest.content": lambda names, rpc: b"A text of the caller.",
    "media_type": lambda names, rpc: "text/plain",
    "role": lambda names, rpc: "user",
    "field": lambda names, rpc: "kind",
    "TagCondition.any_of": lambda names, rpc: names.document,
    "limit": lambda names, rpc: 10,
    "page_size": lambda names, rpc: 10,
    "Collection.dimensions": lambda names, rpc: len(names.vector) // 4,
    "min_similarity": lambda names, rpc: -1.0,
    "max_error_rate": lambda names, rpc: 0.9,
    "precision": lambda names, rpc: 0.9,
    "force": lambda names, rpc: True,
    "all": lambda names, rpc: True,
    "whole_tenant": lambda names, rpc: True,
    "include_internal": lambda names, rpc: True,
    "return_vector": lambda names, rpc: True,
    "return_text": lambda names, rpc: True,
    "explain": lambda names, rpc: True,
    # Left out: they name nothing of a tenant, or would make the request invalid.
    **dict.fromkeys(
        (
            *("model", "context", "usage", "further", "metric", "parameters", "metadata"),
            *("RetrieveRequest.history", "AskRequest.history", "StreamAskRequest.history"),
            *("fields", "add_fields", "remove", "group_by", "return_fields", "health", "aliases"),
            *("svs_vamana", "geo", "number", "exists", "all_of", "any_of", "none_of"),
            *("Query.filter", "RetrieveRequest.filter", "AskRequest.filter"),
            *("StreamAskRequest.filter", "ListDocumentsRequest.filter"),
        ),
        _none,
    ),
}


def variants(method: Any, names: Names) -> list[list[Any]]:
    """Return the requests of an rpc, one list for each alternative of each ``oneof``."""
    rpc = f"{method.containing_service.name}/{method.name}"
    choices: dict[str, list[str]] = {}
    _build(method.input_type, names, rpc, {}, choices)
    found = [_requests(method, names, rpc, {})]
    for one in method.input_type.oneofs if method.client_streaming else ():
        choices.pop(one.full_name, None)  # the first request has all alternatives of it
    for oneof, alternatives in choices.items():
        found += [_requests(method, names, rpc, {oneof: one}) for one in alternatives[1:]]
    return found


def _requests(method: Any, names: Names, rpc: str, chosen: dict[str, str]) -> list[Any]:
    """Return the messages of a request. A stream carries each alternative of its message once."""
    alternatives: dict[str, list[str]] = {}
    first = _build(method.input_type, names, rpc, chosen, alternatives)
    if not method.client_streaming:
        return [first]
    own = [one.full_name for one in method.input_type.oneofs]
    further = [
        _build(method.input_type, names, rpc, chosen | {oneof: one}, {})
        for oneof in own
        for one in alternatives.get(oneof, [])[1:]
    ]
    return [first, *further]


def _build(
    descriptor: Any, names: Names, rpc: str, chosen: dict[str, str], choices: dict[str, list[str]]
) -> Any:
    message = message_factory.GetMessageClass(descriptor)()
    for oneof in descriptor.oneofs:
        if not _is_synthetic(oneof):
            choices.setdefault(oneof.full_name, [one.name for one in _sendable(oneof, names, rpc)])
    for one in descriptor.fields:
        if _is_chosen(one, chosen, choices):
            _fill(message, one, _value(one, names, rpc, chosen, choices))
    return message


def _is_synthetic(oneof: Any) -> bool:
    return bool(len(oneof.fields) == 1 and oneof.name == f"_{oneof.fields[0].name}")


def _is_chosen(one: Any, chosen: dict[str, str], choices: dict[str, list[str]]) -> bool:
    oneof = one.containing_oneof
    if oneof is None or _is_synthetic(oneof):
        return True
    alternatives = choices[oneof.full_name]
    default = alternatives[0] if alternatives else ""
    return bool(one.name == chosen.get(oneof.full_name, default))


def _sendable(oneof: Any, names: Names, rpc: str) -> Iterator[Any]:
    for one in oneof.fields:
        if one.message_type is not None or _known(one)(names, rpc) is not None:
            if _is_left_out(one, names, rpc):
                continue
            yield one


def _is_left_out(one: Any, names: Names, rpc: str) -> bool:
    value = VALUES.get(f"{one.containing_type.name}.{one.name}") or VALUES.get(one.name)
    return value is _none


def _known(one: Any) -> Value:
    keys = f"{one.containing_type.name}.{one.name}", one.name
    for key in keys:
        if key in VALUES:
            return VALUES[key]
    assert one.type not in _TEXTS, f"what does an attack send in {one.full_name}?"
    return _none


def _value(
    one: Any, names: Names, rpc: str, chosen: dict[str, str], choices: dict[str, list[str]]
) -> Any:
    if one.message_type is None or _is_left_out(one, names, rpc):
        return _known(one)(names, rpc)
    return _build(one.message_type, names, rpc, chosen, choices)


def _fill(message: Any, one: Any, value: Any) -> None:
    if value is None:
        return
    if one.is_repeated:
        getattr(message, one.name).append(value)
    elif one.message_type is not None:
        getattr(message, one.name).CopyFrom(value)
    else:
        setattr(message, one.name, value)
