"""A chat answer in progress: whole, or as the chunks of a stream."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

from services.gateway.cache.types import Decision, Entry
from services.gateway.chat import completions, recording
from services.gateway.chat.types import ChatRequest
from services.gateway.coalescing.singleflight import Item
from services.gateway.llm.types import Json, completion_text


@dataclass
class ChatAnswer:
    """An answer in progress.

    Attributes:
        request: the request.
        decision: the decision of the cache.
        items: the parts of the answer: any number of ``{"chunk": …}``, then ``{"done": …,
            "record": […]}`` with the completion and the record of its chunks. The completion of a
            stream that is not one text is ``{}``. The first item of an answer of the language
            model also has ``headers``.
        headers: the headers of the language model server, once the first item has arrived.
    """

    request: ChatRequest
    decision: Decision
    items: AsyncIterator[Item]
    headers: dict[str, str] = field(default_factory=dict)

    async def completion(self) -> Json:
        """Return the whole completion."""
        async for item in self.items:
            self.headers.update(item.get("headers") or {})
            if "done" in item:
                completion: Json = item["done"]
                return completion
        raise AssertionError("items end with done, or raise")

    async def chunks(self) -> AsyncIterator[Json]:
        """Yield the completion as the chunks of a stream."""
        is_streamed = False
        async for item in self.items:
            self.headers.update(item.get("headers") or {})
            chunks: Iterable[Json] = ()
            if "chunk" in item:
                is_streamed, chunks = True, (item["chunk"],)
            elif not is_streamed and item["done"]:
                chunks = _chunks(item)
            for chunk in chunks:
                if wanted := self._wanted(chunk):
                    yield wanted

    def _wanted(self, chunk: Json) -> Json | None:
        """Return a chunk without a usage for which only the gateway has asked."""
        if self.request.cache_request is None or self.request.includes_usage:
            return chunk
        return completions.without_usage(chunk)


def replayed(request: ChatRequest, entry: Entry) -> Item:
    """Return the only item of an answer from an entry."""
    if entry.is_curated:
        model = str(request.body["model"])
        completion = completions.from_text(entry.response, model, entry.id, entry.created_at)
        return {"done": completion, "pieces": [entry.response]}
    completion, record = entry.detail["completion"], entry.detail.get("record")
    if record:
        return {"done": completion, "record": record}
    # Earlier versions stored only the texts of the chunks.
    return {"done": completion, "pieces": entry.detail.get("pieces")}


def done(chunks: Sequence[Json]) -> Item:
    """Return the last item of a stream."""
    completion = completions.join(chunks)
    return {"done": completion, "record": recording.record(chunks)} if completion else {"done": {}}


def _chunks(item: Item) -> Iterable[Json]:
    """Return the chunks of an answer, as they were or as a stream might have had them."""
    if record := item.get("record"):
        return recording.replay(record)
    completion = item["done"]
    return completions.split(completion, item.get("pieces") or [completion_text(completion)])
