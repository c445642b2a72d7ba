from services.gateway.backends.collections import CollectionInfo
from services.gateway.rag.ingest.types import DocumentCollection
from services.gateway.reembedding.collection_states import CollectionState, collection_states

OLD, NEW = "old" * 8, "new" * 8
NOTES, PAPERS = DocumentCollection("notes"), DocumentCollection("my-papers")
COPY = NOTES.copy_name(NEW)


def test_each_collection_has_its_source_and_its_copies() -> None:
    source = CollectionInfo("documents-notes", OLD, 5)
    copy = CollectionInfo(COPY, NEW, 3)
    renamed = CollectionInfo(
        DocumentCollection("my-papers").copy_name(OLD), OLD, 7, ("documents-my-papers",)
    )
    orphan = CollectionInfo(DocumentCollection("lost").copy_name(OLD), OLD, 2)
    found = [source, copy, renamed, orphan, CollectionInfo("cache-old-1", OLD, 9)]
    assert collection_states(found, [NOTES, PAPERS]) == {
        DocumentCollection("lost"): CollectionState(None, [orphan]),
        PAPERS: CollectionState(renamed, []),
        NOTES: CollectionState(source, [copy]),
    }


def test_collections_that_others_have_created_are_left_out() -> None:
    of_users = [
        CollectionInfo("documents-a", OLD, 5),
        CollectionInfo("documents-b", "", 0),
        CollectionInfo("reembedded-mine", OLD, 5),
    ]
    empty = CollectionInfo("documents-empty", OLD, 0)
    assert collection_states([*of_users, empty], []) == {
        DocumentCollection("empty"): CollectionState(empty)
    }


def test_what_is_pending() -> None:
    source, copy = CollectionInfo("documents-notes", OLD, 5), CollectionInfo(COPY, NEW, 3)
    assert CollectionState(source, [copy]).pending(NEW) == 5
    assert CollectionState(source, [copy]).pending(OLD) == 3
    assert CollectionState(source).pending(OLD) == 0
    assert CollectionState(None, [copy]).pending(NEW) == 3


def test_the_copy_of_the_current_model_is_the_most_complete() -> None:
    of_old = CollectionInfo(DocumentCollection("notes").copy_name(OLD), OLD, 9)
    copies = CollectionState(None, [CollectionInfo(COPY, NEW, 3), of_old])
    assert copies.most_complete(NEW).name == COPY
    assert copies.most_complete("third").name == of_old.name
