from __future__ import annotations

from engine_fakes import FakeSequence, WritingModel, byte_tokenizer

from ds4_backend.engine.kept import KeptSequences


def model() -> WritingModel:
    return WritingModel(byte_tokenizer(), lambda prompt: "")


def keep(kept: KeptSequences, owner: WritingModel, *ids: int) -> None:
    kept.add(ids, FakeSequence(owner, ids))  # type: ignore[arg-type]


def test_the_longest_beginning_of_the_prompt_is_resumed_as_a_fork() -> None:
    owner, kept = model(), KeptSequences()
    keep(kept, owner, 1, 2)
    keep(kept, owner, 1, 2, 3)
    keep(kept, owner, 1, 9, 9, 9)
    fork = kept.resume((1, 2, 3, 4))
    assert fork is not None
    assert fork.length == 3
    assert len(kept) == 3
    assert len(owner.alive) == 4


def test_a_prompt_that_was_read_to_its_end_leaves_nothing_to_resume_from() -> None:
    owner, kept = model(), KeptSequences()
    keep(kept, owner, 1, 2, 3)
    assert kept.resume((1, 2, 3)) is None
    assert kept.resume((1, 2)) is None
    assert kept.resume((7, 2, 3, 4)) is None


def test_the_least_recently_used_goes_first() -> None:
    owner, kept = model(), KeptSequences(bound=2)
    keep(kept, owner, 1)
    keep(kept, owner, 2, 2)
    fork = kept.resume((1, 5))
    assert fork is not None
    keep(kept, owner, 3, 3, 3)
    assert kept.tokens() == (1, 3)
    assert kept.resume((2, 2, 2)) is None
    fork.release()
    assert len(owner.alive) == 2


def converse(kept: KeptSequences, owner: WritingModel, ids: tuple[int, ...], turns: int) -> None:
    """Turns of one conversation, each kept before and after its answer."""
    for turn in range(turns):
        kept.resume((*ids, turn))
        for part in (turn, 0):
            ids = (*ids, part)
            keep(kept, owner, *ids)


def test_the_many_turns_of_one_conversation_leave_another_its_last() -> None:
    owner, kept = model(), KeptSequences(bound=6)
    converse(kept, owner, (1,), 1)
    converse(kept, owner, (2,), 20)
    assert kept.resume((1, 0, 0, 7)).length == 3
    assert kept.resume((2, *(part for turn in range(20) for part in (turn, 0)), 7)).length == 41


def test_a_beginning_that_several_share_stays_like_any_other() -> None:
    owner, kept = model(), KeptSequences(bound=6)
    keep(kept, owner, 1)
    converse(kept, owner, (1, 2), 1)
    converse(kept, owner, (1, 3), 10)
    assert kept.resume((1, 4)).length == 1


def test_the_same_ids_are_kept_once() -> None:
    owner, kept = model(), KeptSequences()
    keep(kept, owner, 1, 2)
    keep(kept, owner, 1, 2)
    assert (len(kept), len(owner.alive)) == (1, 1)
    kept.clear()
    assert not owner.alive
