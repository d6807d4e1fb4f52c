from __future__ import annotations

import io
import threading

import pytest
from structlog.testing import capture_logs

from kfadapter_grpc.daemon.log import LogWriter

WAIT_SECONDS = 30


class Slow(io.StringIO):
    """A stream that blocks until the test lets it continue."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.may_go_on = threading.Event(), threading.Event()

    def write(self, text: str, /) -> int:
        """Blocks until released, then writes the text."""
        self.reached.set()
        assert self.may_go_on.wait(WAIT_SECONDS)
        return super().write(text)


class Broken(io.StringIO):
    """A stream with a closed reader."""

    def write(self, text: str, /) -> int:
        """Fails."""
        raise BrokenPipeError(text)


def test_lines_arrive_in_order() -> None:
    """All lines are written in order, at the latest when the writer is closed."""
    stream = io.StringIO()
    with LogWriter(stream) as lines:
        for number in range(1000):
            lines.write(f"{number}\n")
    assert stream.getvalue().split() == [str(number) for number in range(1000)]


def test_lines_arrive_without_an_end() -> None:
    """A line is written soon, even if no other follows."""
    stream = Slow()
    stream.may_go_on.set()
    with LogWriter(stream) as lines:
        lines.write("one\n")
        assert stream.reached.wait(WAIT_SECONDS)


def test_lines_after_the_end_are_written_at_once() -> None:
    """Lines after the end are written at once."""
    stream = io.StringIO()
    with LogWriter(stream) as lines:
        lines.write("one\n")
    lines.write("two\n")
    assert stream.getvalue() == "one\ntwo\n"


def test_no_call_waits_for_a_reader() -> None:
    """While the reader blocks, writes do not, a bounded number of lines is kept, and the number lost is reported."""
    stream = Slow()
    with capture_logs() as reported, LogWriter(stream, max_lines=10) as lines:
        lines.write("first\n")
        assert stream.reached.wait(WAIT_SECONDS)
        for number in range(25):
            lines.write(f"{number}\n")
        stream.may_go_on.set()
    assert stream.getvalue().split() == ["first", *map(str, range(10))]
    assert [line["lines"] for line in reported] == [15]


@pytest.mark.parametrize("closed", [False, True])
def test_a_log_that_cannot_be_written_ends_nothing(*, closed: bool) -> None:
    """A broken or closed stream fails no call."""
    stream = Broken()
    if closed:
        stream.close()
    with LogWriter(stream) as lines:
        assert lines.write("one\n") == len("one\n")
