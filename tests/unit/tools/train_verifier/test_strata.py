import itertools
import string

import pytest

from services.gateway.cache.labelled_pairs import distinct_texts
from tools.train_verifier import strata

PARTS: tuple[strata.Part, ...] = ("training", "held_out")


def texts(part: strata.Part) -> list[str]:
    return [
        text
        for kind in strata.KINDS
        for text in distinct_texts(
            [*strata.look_alikes(part, kind, 10**6), *strata.paraphrases(part, kind, 10**6)]
        )
    ]


@pytest.mark.parametrize("kind", strata.KINDS)
def test_300_look_alikes_of_each_kind_are_held_out(kind: str) -> None:
    pairs = strata.look_alikes("held_out", kind)
    assert len(pairs) == strata.OF_A_KIND == len({(pair.one, pair.other) for pair in pairs})
    assert not any(pair.same or pair.one == pair.other for pair in pairs)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", strata.KINDS)
def test_no_pair_is_both_a_look_alike_and_a_paraphrase(part: strata.Part, kind: str) -> None:
    different, same = (
        {frozenset((pair.one, pair.other)) for pair in pairs}
        for pairs in (
            strata.look_alikes(part, kind, 10**6),
            strata.paraphrases(part, kind, 10**6),
        )
    )
    assert len(same) >= 60
    assert not different & same


def test_training_and_held_out_share_no_wording_and_no_value() -> None:
    training, held_out = (
        [frame for frames in strata.frames(part).values() for frame in frames] for part in PARTS
    )
    assert not set(texts("training")) & set(texts("held_out"))
    for one, other in itertools.product(training, held_out):
        assert not set(one.wordings) & set(other.wordings)
    values = [
        {value for frame in frames for group in frame.values for value in group}
        for frames in (training, held_out)
    ]
    assert values[0] & values[1] <= {"with", "without"}  # two words without others like them


@pytest.mark.parametrize("part", PARTS)
def test_all_wordings_of_a_frame_have_the_same_placeholders(part: strata.Part) -> None:
    for frames in strata.frames(part).values():
        for frame in frames:
            fields = {
                frozenset(name for _, name, _, _ in string.Formatter().parse(wording) if name)
                for wording in frame.wordings
            }
            assert len(fields) == 1, frame.wordings
            [names] = fields
            assert ("y" in names) == frame.swap
            assert ("t" in names) == (frame.topics != ("",))


def test_a_look_alike_of_an_order_swaps_two_values() -> None:
    pairs = strata.look_alikes("held_out", "order", 10**6)
    ask = {frozenset((pair.one, pair.other)) for pair in pairs}
    assert (
        frozenset({"How do I convert feet to inches?", "How do I convert inches to feet?"}) in ask
    )


def test_the_seed_decides_the_selection() -> None:
    first, again = (strata.look_alikes("held_out", "name", 50, seed=3) for _ in range(2))
    assert first == again != strata.look_alikes("held_out", "name", 50, seed=4)
