"""Parts of calls."""

from __future__ import annotations

from kfadapter_grpc.contract.call import Call


def test_a_part_ends_with_the_call() -> None:
    """A part of a call is cancelled with the call, until the part has finished."""
    call = Call("test", 60)
    with call.within(30) as part:
        call.cancel()
        assert part.cancelled
    call = Call("test", 60)
    with call.within(30) as part:
        pass
    call.cancel()
    assert not part.cancelled


def test_a_part_is_short() -> None:
    """A part has the earlier of its own deadline and the call's, and the call's request id and usage."""
    call = Call("test", 60)
    with call.within(30) as part, call.within(90) as longer:
        assert part.remaining() <= 30
        assert longer.remaining() <= 60
        assert (part.request_id, part.usage) == (call.request_id, call.usage)
