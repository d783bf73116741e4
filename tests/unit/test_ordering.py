"""Chains, and what a commit tells of the heads that failed."""

import pytest

from thorn_stream.core.deliveries import Dead, Kind, Outcome, Retry
from thorn_stream.core.offsets import LIMIT
from thorn_stream.core.oldest import Oldest
from thorn_stream.core.ordering import MOST_STUCK, Chains, Stuck, note, read_note
from thorn_stream.core.schedule import RetryPolicy, Tiers, policy_for, settlement
from thorn_stream.core.subscribers import Subscriber

FAILED = Outcome(Kind.STATUS, 500)


def test_one_of_a_chain_is_the_head_and_the_others_follow_in_order() -> None:
    """Other chains have heads of their own; one that has ended begins anew."""
    chains: Chains[str, int] = Chains()
    assert chains.add("a", 1)
    assert not chains.add("a", 2)
    assert chains.add("b", 3)
    assert not chains.add("a", 4)
    assert len(chains) == 2
    assert chains.done("a") == 2
    assert chains.done("a") == 4
    assert chains.done("a") is None
    assert chains.add("a", 5)


def test_dropped_chains_begin_anew() -> None:
    """Their keys are free then; others are as they were."""
    chains: Chains[str, int] = Chains()
    for item in (1, 2):
        chains.add("a", item)
        chains.add("b", 10 * item)
    chains.drop(lambda key: key == "a")
    assert chains.add("a", 4)
    assert chains.done("a") is None
    assert chains.done("b") == 20


def test_heads_are_read_back_as_they_were_noted() -> None:
    """With how often each was tried, when first, and when it is due."""
    heads = [Stuck(9, 3, 1_700_000_000_000, 1_700_000_060_500), Stuck(2**62, 1, 5, 5)]
    assert read_note(note(heads)) == ({head.offset: head for head in heads}, None)
    assert read_note(note(heads, 17)) == ({head.offset: head for head in heads}, 17)
    assert read_note(note([], 0)) == ({}, 0)
    assert note([]) == ""


def test_of_many_heads_those_tried_most_often_are_noted() -> None:
    """And they leave most of the metadata to the offsets."""
    now = 1_700_000_000_000
    heads = [Stuck(10**9 + n, n + 1, now + n, now + 7_200_000 + n) for n in range(200)]
    text = note(heads, 10**9)
    known, _ = read_note(text)
    assert len(known) == MOST_STUCK
    assert min(head.attempts for head in known.values()) == 200 - MOST_STUCK + 1
    assert len(text) < LIMIT * 0.45


@pytest.mark.parametrize(
    "text", ["?", "1.2", "1.2.3.4,", ".", "1.0.2.3", "zzzzzzzzzzzzzzzzzz", "é.1.1.1", "1.1.1.1,7"]
)
def test_what_was_not_noted_by_us_tells_nothing(text: str) -> None:
    """Metadata can be written by anybody who may commit for the group."""
    assert read_note(text) == ({}, None)


def test_the_oldest_is_known_whatever_comes_and_goes() -> None:
    """Equal moments are counted one by one; a name of which nothing is left is not there."""
    oldest = Oldest()
    for moment in (5, 3, 3, 9):
        oldest.add("a", moment)
    oldest.add("b", 1)
    oldest.remove("a", 3)
    assert oldest.get("a") == 3
    oldest.remove("a", 9)
    oldest.remove("a", 3)
    assert dict(oldest.items()) == {"a": 5, "b": 1}
    oldest.remove("a", 5)
    assert oldest.get("a") is None
    assert dict(oldest.items()) == {"b": 1}


def test_a_blocked_head_is_tried_on_at_the_last_wait() -> None:
    """`on_exhausted: block` of an ordered subscriber; anything else ends as before."""
    tiers = Tiers((5.0, 60.0))
    defaults = RetryPolicy(jitter=0.0, schedule=(5.0, 30.0))

    def ordered(**fields: object) -> Subscriber:
        return Subscriber.model_validate(
            {"id": "a", "event": "*", "url": "https://a.example", "ordering": "key", **fields}
        )

    blocks = policy_for(ordered(on_exhausted="block"), defaults, 20)
    assert [settlement(FAILED, blocks, n, 0, 0.5, tiers) for n in (1, 2, 3, 99)] == [
        Retry(5_000, 5.0),
        Retry(30_000, 60.0),
        Retry(30_000, 60.0),
        Retry(30_000, 60.0),
    ]
    assert isinstance(settlement(Outcome(Kind.STATUS, 410), blocks, 9, 0, 0.5, tiers), Dead)
    skips = policy_for(ordered(), defaults, 20)
    assert isinstance(settlement(FAILED, skips, 3, 0, 0.5, tiers), Dead)
    never = policy_for(ordered(on_exhausted="block", retry=False), RetryPolicy(jitter=0.0), 20)
    assert settlement(FAILED, never, 4, 0, 0.5, tiers) == Retry(60_000, 60.0)
    none = policy_for(ordered(on_exhausted="block", retry_schedule=()), defaults, 20)
    assert settlement(FAILED, none, 1, 0, 0.5, tiers) == Retry(60_000, 60.0)
