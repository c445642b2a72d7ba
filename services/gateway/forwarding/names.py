"""Translates names of collections between a tenant's own and those of search.

``FIELDS`` lists every field of SearchService that names a collection or an alias.
"""

import functools
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

# By message.
FIELDS = {
    "Collection": "name aliases",
    "GetCollectionRequest": "name",
    "UpdateCollectionRequest": "name",
    "DeleteCollectionRequest": "name",
    "AssignAliasRequest": "alias collection",
    "AssignAliasResponse": "previous",
    "DeleteAliasRequest": "alias",
    "DeleteAliasResponse": "collection",
    "ReindexRequest": "collection",
    "UpsertDocumentsRequest": "collection",
    "UpsertStreamRequest": "collection",
    "UpdateFieldsRequest": "collection",
    "GetDocumentsRequest": "collection",
    "ListDocumentsRequest": "collection",
    "DeleteDocumentsRequest": "collection",
    "SearchRequest": "collection",
    "Query": "collection",
    "MeasureRecallRequest": "collection",
    "TuneIndexRequest": "collection",
    "ExportCollectionRequest": "collection",
}
# Returns the translation of a name; the second argument is the path of its field.
Translate = Callable[[str, str], str]


@functools.cache
def have_names(descriptor: Descriptor) -> bool:
    """Return whether messages of a type may name collections."""
    own, nested = _fields(descriptor)
    return bool(own or nested)


def translate(message: Message, translation: Translate, path: str = "") -> None:
    """Translate all names in a message that are not empty, in place."""
    own, nested = _fields(message.DESCRIPTOR)
    for name in own:
        value: Any = getattr(message, name)
        if isinstance(value, str):
            if value:
                setattr(message, name, translation(value, path + name))
        else:
            value[:] = filter(None, [translation(one, path + name) for one in value])
    for name, is_repeated in nested:
        if is_repeated:
            for place, one in enumerate(getattr(message, name)):
                translate(one, translation, f"{path}{name}[{place}].")
        elif message.HasField(name):
            translate(getattr(message, name), translation, f"{path}{name}.")


@functools.cache
def _fields(descriptor: Descriptor) -> tuple[list[str], list[tuple[str, bool]]]:
    """Return a type's fields that are names, and those whose messages may have names."""
    own = FIELDS.get(descriptor.name, "").split()
    nested = [
        (field.name, field.is_repeated)
        for field in descriptor.fields
        # Types that contain themselves, such as filters, have no names.
        if field.message_type and _contains_names(field.message_type, frozenset())
    ]
    return own, nested


def _contains_names(descriptor: Descriptor, seen: frozenset[str]) -> bool:
    if descriptor.name in seen:
        return False
    return descriptor.name in FIELDS or any(
        _contains_names(field.message_type, seen | {descriptor.name})
        for field in descriptor.fields
        if field.message_type
    )
