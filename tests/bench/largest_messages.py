"""The largest legal request of any rpc: filled from its descriptor, by a rule for each field.

A new field of text, bytes or messages without a rule raises LookupError, and so does a new rpc.
"""

import functools
import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf import message_factory

from memetwin.embedder.v1 import embedder_pb2
from memetwin.gateway.v1 import cache_pb2, chat_pb2, rag_pb2, twin_pb2
from memetwin.search.v1 import search_pb2
from services.gateway.request_limits import MAX_REQUEST_BYTES
from services.grpc_channel import MESSAGE_LIMIT

MIB = 2**20
MESSAGE_BYTES = MESSAGE_LIMIT
DIMENSIONS = 384
# Messages with the content of a document.
PIECES = 6
CONTRACT = {
    "embedder": (embedder_pb2,),
    "search": (search_pb2,),
    "gateway": (cache_pb2, chat_pb2, rag_pb2, twin_pb2),
}


@dataclass(frozen=True)
class Shape:
    """A kind of text that is expensive for some code. ``piece`` returns its n-th piece."""

    name: str
    piece: Callable[[int], str]
    media_type: str = "text/plain"

    def text(self, size: int) -> str:
        """Return a text of at most ``size`` bytes."""
        first = self.piece(0)
        if all(self.piece(n) == first for n in range(1, 4)):
            return first * (size // len(first.encode())) or "x"
        pieces: list[str] = []
        length = 0
        for n in itertools.count():
            piece = self.piece(n)
            length += len(piece.encode())
            if length > size:
                return "".join(pieces) or "x"
            pieces.append(piece)
        raise AssertionError


def _word(number: int) -> str:
    letters = ""
    for _ in range(5):
        number, letter = divmod(number, 26)
        letters += chr(97 + letter)
    return letters


SENTENCE = "The model answers {} questions about Paris, Google and 1998 in March. "
SHAPES = (
    Shape("sentences", lambda n: SENTENCE.format(_word(n))),
    Shape("initials", lambda _: "J. "),
    Shape("distinct words", lambda n: _word(n) + " "),
    Shape("one word", lambda _: "x"),
    Shape("letters", lambda _: "a "),
    Shape("lines of CSV", lambda n: f"{_word(n)},{n},x\n"),
    Shape("no spaces", lambda _: "字"),
    Shape("nested HTML", lambda _: "<div>", "text/html"),
    Shape("paragraphs of HTML", lambda _: "<p>a", "text/html"),
    Shape("headings", lambda n: f"# {_word(n)}\n\n", "text/markdown"),
    Shape("brackets", lambda _: "[", "text/markdown"),
    Shape("quotations", lambda _: "> ", "text/markdown"),
)


@dataclass(frozen=True)
class Text:
    """A text or bytes of at most this size."""

    max_bytes: int = MESSAGE_BYTES


@dataclass(frozen=True)
class Many:
    """A repeated field or a map of at most this length."""

    count: int
    max_bytes: int = MESSAGE_BYTES


@dataclass
class Fill:
    """How a request is filled.

    Attributes:
        shape: the shape of its texts.
        budget: its size in bytes.
        choices: the field to set for each oneof, by the oneof's full name; otherwise the first one.
        seen: the oneofs that were found, with their fields.
        number: the number of the element that is being filled.
    """

    shape: Shape
    budget: int = MESSAGE_BYTES
    choices: Mapping[str, str] = field(default_factory=dict)
    seen: dict[str, list[str]] = field(default_factory=dict)
    number: int = 0


@functools.cache
def vector() -> bytes:
    return np.random.default_rng(1).normal(size=DIMENSIONS).astype("<f4").tobytes()


@functools.cache
def image() -> bytes:
    """Return a picture that cannot be compressed, of almost 20 MiB."""
    from PIL import Image

    pixels = np.random.default_rng(2).integers(0, 256, (2550, 2550, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def filter_() -> search_pb2.Filter:
    """Return a filter with the maximum number of conditions, each with one value."""
    conditions = [
        search_pb2.Filter(tag=search_pb2.TagCondition(field="tag", any_of=[_word(n)]))
        for n in range(1_990)
    ]
    return search_pb2.Filter(any_of=search_pb2.Filters(filters=conditions))


def fields() -> dict[str, search_pb2.FieldValue]:
    return {
        "number": search_pb2.FieldValue(number=1.5),
        "tag": search_pb2.FieldValue(strings=search_pb2.Strings(values=["a"] * 100)),
        "text": search_pb2.FieldValue(string="a word " * 50),
        "geo": search_pb2.FieldValue(geo=search_pb2.GeoPoint(lat=1, lon=2)),
    }


def collection(name: str) -> search_pb2.Collection:
    types = [(name, getattr(search_pb2, f"FIELD_TYPE_{name.upper()}")) for name in fields()]
    return search_pb2.Collection(
        name=name,
        dimensions=DIMENSIONS,
        metric=search_pb2.METRIC_COSINE,
        hnsw=search_pb2.HnswIndex(),
        fields=[search_pb2.Field(name=name, type=kind) for name, kind in types],
    )


Rule = Any
# Fields whose values differ between the elements of a repeated field.
LABELS, DISTINCT = {"same", "answerable"}, {"one", "other", "question"}
# By "Message.field", or by the field's name. A callable gets the Fill; any other value is set.
RULES: dict[str, Rule] = {
    # names of existing objects
    "collection": "largest",
    "additional_collections": ["largest-documents"] * 7,
    "RetrieveRequest.collection": "largest-documents",
    "AskRequest.collection": "largest-documents",
    "StreamAskRequest.collection": "largest-documents",
    "CalibrateRefusalsRequest.collection": "largest-documents",
    "IngestHeader.collection": "largest-documents",
    "GetDocumentRequest.collection": "largest-documents",
    "DeleteDocumentRequest.collection": "largest-documents",
    "RagService.ListDocumentsRequest.collection": "largest-documents",
    "CreateCollectionRequest.collection": lambda fill: collection("largest-new"),
    "ImportCollectionRequest.collection": lambda fill: collection("largest-import"),
    "DeleteCollectionRequest.name": "largest-new",
    "GetModelRequest.name": "",
    "name": "largest",
    "alias": "largest-alias",
    "model": "",
    "model_digest": "",
    "id": lambda fill: f"largest-{fill.number}",
    "GetDocumentRequest.id": "largest-0",
    "IngestHeader.id": lambda fill: f"largest-{fill.shape.name}",
    "document_id": "largest-0",
    "request_id": "largest",
    "page_token": "",
    "name_prefix": "x",
    "source": "folder:/largest",
    "page_size": 1000,
    "scope": lambda fill: cache_pb2.Scope(tenant="default", user="largest"),
    "MeasureRecallRequest.sample": 500,
    "MeasureRecallRequest.k": 100,
    "TuneIndexRequest.k": 10,
    "TuneIndexRequest.target_recall": 0.9,
    "index": None,
    # the embedder
    "EmbedRequest.inputs": Many(2048),
    "Input.text": Text(4 * MIB),
    "Input.image": lambda fill: image(),
    "Input.audio": lambda fill: b"RIFF" + bytes(MIB),
    "texts": Many(2048),
    "DetokenizeRequest.token_ids": Many(2048),
    "TokenIds.ids": [1037] * 500,
    "texts[]": Text(4 * MIB),
    "query": Text(4 * MIB),
    # search
    "documents": Many(5_000),
    "Document.vector": lambda fill: vector(),
    "fields": lambda fill: fields(),
    "Document.text": Text(2 * MIB),
    "Document.payload": Text(2 * MIB),
    "updates": Many(5_000),
    "remove": ["other"],
    "ids": Many(10_000),
    "ids[]": lambda fill: f"largest-{fill.number}",
    "Ids.values": Many(10_000),
    "Ids.values[]": lambda fill: f"largest-{fill.number}",
    "filter": lambda fill: filter_(),
    "queries": Many(1_000),
    "Query.collection": "",
    "Query.vector": lambda fill: vector(),
    "Query.text": Text(10_000),
    "Query.limit": 1_000,
    "Query.filter": None,
    "Query.group_by": None,
    "HybridQuery.vector": lambda fill: vector(),
    "HybridQuery.text": Text(10_000),
    "return_fields": ["number", "tag", "text", "geo"],
    "return_vector": True,
    "add_fields": None,
    "ef_runtime": [10, 100],
    "UpdateCollectionRequest.ef_runtime": 50,
    "m": [8, 16],
    "ef_construction": [50],
    "quantization": None,
    "svs_vamana.compression": "",
    "flat": None,
    "hnsw": lambda fill: search_pb2.HnswIndex(m=8),
    "svs_vamana": None,
    # the cache
    "prompt": Text(32_768),
    "response": Text(4 * MIB),
    "LookupEntryRequest.vector": None,
    "CreateEntryRequest.vector": None,
    "parameters": Many(10_000),
    "parameters[]": Text(1_000),
    "system_prompt": Text(),
    "tools": Many(10_000),
    "tools[]": Text(),
    "response_format": Text(),
    "history": Many(10_000),
    "role": "user",
    "content": Text(),
    "cites": Many(10_000),
    "cites[]": Text(1_000),
    "usage": lambda fill: cache_pb2.Usage(prompt_tokens=1),
    "LoadEntriesRequest.entries": Many(1_000),
    "CuratedEntry.model": "",
    "CuratedEntry.cites": None,
    "metadata": Many(8),
    "metadata[]": Text(100),
    "PurgeFilter.cites": Many(10_000),
    "PurgeFilter.cites[]": Text(1_000),
    "context_fingerprint": "",
    "prompt_contains": Text(32_768),
    "PurgeEntriesRequest.filter": "recurse",
    "pairs": Many(12_500),
    "CalibrateRequest.precision": 0.9,
    "one": Text(32_768),
    "other": Text(32_768),
    # chat
    "messages": Many(10_000),
    "further": lambda fill: json.dumps({"metadata": {_word(n): str(n) for n in range(40_000)}}),
    # RAG
    "question": Text(32_768),
    "limit": 1000,
    "rerank": False,
    "title": Text(1_000),
    "media_type": lambda fill: fill.shape.media_type,
    "IngestDocumentsRequest.content": Text(32 * MIB // PIECES),
    "questions": Many(10_000),
    # twins
    "image": lambda fill: image(),
    "FindTwinRequest.text": Text(10_000),
    "FindTwinRequest.limit": 100,
    "AddTwinRequest.title": "A title",
    "tags": ["tag"] * 32,
}


def rpcs() -> Iterator[tuple[str, Any]]:
    """Yield each rpc of the contract with the process that serves it."""
    for process, modules in CONTRACT.items():
        for module in modules:
            for service in module.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    yield process, method


def requests(method: Any, shape: Shape) -> Iterator[tuple[str, list[Any]]]:
    """Yield the variants of a call: the field that is chosen for a oneof, and the requests."""
    seen: dict[str, list[str]] = {}
    budget = _budget(method)
    first = build(method.input_type, Fill(shape, budget, seen=seen))
    own = {one.full_name for one in method.input_type.oneofs}
    if method.client_streaming and own & seen.keys():  # a message for each part of the stream
        [parts] = [names for name, names in seen.items() if name in own]
        [name] = own & seen.keys()
        messages = [build(method.input_type, Fill(shape, budget, {name: part})) for part in parts]
        yield "", [*messages, *messages[-1:] * (PIECES - 1)]
        return
    count = 4 if method.client_streaming else 1
    yield "", [first] * count
    for name, options in seen.items():
        for option in options[1:]:
            yield option, [build(method.input_type, Fill(shape, budget, {name: option}))] * count


def _budget(method: Any) -> int:
    """Return how many bytes a request of a method may have, minus some for lengths and names."""
    name = method.containing_service.name.removesuffix("Service")
    limits = MAX_REQUEST_BYTES.get(name, {})
    return int(limits.get(method.name, limits.get("", MESSAGE_LIMIT)) * 0.8)


def build(descriptor: Any, fill: Fill) -> Any:
    """Return a message in which every field has its largest value."""
    message = message_factory.GetMessageClass(descriptor)()
    chosen = [one for one in descriptor.fields if _is_chosen(descriptor, one, fill)]
    rules = {one.name: rule_of(descriptor, one) for one in chosen}
    heavy = sum(isinstance(rule, Text | Many) or rule == "recurse" for rule in rules.values())
    share = Fill(fill.shape, fill.budget // max(1, heavy), fill.choices, fill.seen, fill.number)
    for one in chosen:
        _set(message, one, rules[one.name], share)
    return message


def _is_chosen(descriptor: Any, one: Any, fill: Fill) -> bool:
    oneof = one.containing_oneof
    if oneof is None or (one.has_presence and len(oneof.fields) == 1):
        return True
    names = [each.name for each in oneof.fields if rule_of(descriptor, each) is not None]
    fill.seen[oneof.full_name] = names
    return bool(names) and one.name == fill.choices.get(oneof.full_name, names[0])


def rule_of(descriptor: Any, one: Any) -> Rule:
    """Return the rule of a field. Raises LookupError if a field that needs one has none."""
    own = f"{descriptor.name}.{one.name}"
    if own in RULES:
        return RULES[own]
    if one.name in RULES and one.is_repeated == isinstance(RULES[one.name], Many | list):
        return RULES[one.name]
    if one.name in RULES and (RULES[one.name] is None or callable(RULES[one.name])):
        return RULES[one.name]
    if one.type == one.TYPE_MESSAGE and not one.is_repeated:
        return "recurse"
    if one.is_repeated or one.type in (one.TYPE_STRING, one.TYPE_BYTES):
        raise LookupError(f"no rule for {descriptor.full_name}.{one.name}: add one to RULES")
    return None


def _set(message: Any, one: Any, rule: Rule, fill: Fill) -> None:
    if rule is None:
        return
    if rule == "recurse":
        getattr(message, one.name).CopyFrom(build(one.message_type, fill))
    elif isinstance(rule, Many):
        _set_many(message, one, rule, fill)
    elif isinstance(rule, Text):
        setattr(message, one.name, _text(one, rule, fill))
    else:
        value = rule(fill) if callable(rule) else rule
        if one.is_repeated:
            target = getattr(message, one.name)
            if isinstance(value, dict):
                for key, each in value.items():
                    target[key].CopyFrom(each)
            else:
                target.extend(value)
        elif one.type == one.TYPE_MESSAGE:
            getattr(message, one.name).CopyFrom(value)
        else:
            setattr(message, one.name, value)


def _set_many(message: Any, one: Any, rule: Many, fill: Fill) -> None:
    budget = min(fill.budget, rule.max_bytes)
    target = getattr(message, one.name)
    each = Fill(fill.shape, budget // rule.count - 16, fill.choices, fill.seen)
    is_map = one.message_type is not None and one.message_type.GetOptions().map_entry
    if one.type == one.TYPE_MESSAGE and not is_map:
        element = build(one.message_type, each)
        count = max(1, min(rule.count, budget // max(1, element.ByteSize() + 8)))
        for number in range(count):
            each.number = number
            if "id" in one.message_type.fields_by_name:
                element.id = f"largest-{number}"
            for label in LABELS.intersection(one.message_type.fields_by_name):
                setattr(element, label, number % 2 == 1)
            for text in DISTINCT.intersection(one.message_type.fields_by_name):
                old = getattr(element, text)
                setattr(element, text, f"{number:06} {old[7:]}")
            target.add().CopyFrom(element)
        return
    of_element = RULES.get(f"{message.DESCRIPTOR.name}.{one.name}[]", RULES.get(f"{one.name}[]"))
    if of_element is None:
        raise LookupError(f"no rule for the elements of {one.full_name}: add one to RULES")
    for number in range(rule.count):
        each.number = number
        value = _text(one, of_element, each) if isinstance(of_element, Text) else of_element(each)
        if is_map:
            target[str(number)] = value
        else:
            target.append(value)


def _text(one: Any, rule: Text, fill: Fill) -> Any:
    text = _cached_text(fill.shape, max(1, min(rule.max_bytes, fill.budget)))
    return text.encode() if one.type == one.TYPE_BYTES else text


@functools.lru_cache(8)
def _cached_text(shape: Shape, size: int) -> str:
    return shape.text(size)
