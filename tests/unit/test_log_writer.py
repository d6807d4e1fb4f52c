from __future__ import annotations

import io
import threading

import pytest
from structlog.testing import capture_logs

from kfadapter_grpc.daemon.log import LogWriter

WAIT_SECONDS = 30


class Slow(io.StringIO):
    """A stream whose reader does not read until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.may_go_on = threading.Event(), threading.Event()

    def write(self, text: str, /) -> int:
        """Waits, then takes the text."""
        self.reached.set()
        assert self.may_go_on.wait(WAIT_SECONDS)
        return super().write(text)


class Broken(io.StringIO):
    """A stream that nobody reads any more."""

    def write(self, text: str, /) -> int:
        """Fails."""
        raise BrokenPipeError(text)


def test_lines_arrive_in_order() -> None:
    """All lines are written, in the order in which they came, by the end at the latest."""
    stream = io.StringIO()
    with LogWriter(stream) as lines:
        for number in range(1000):
            lines.write(f"{number}\n")
    assert stream.getvalue().split() == [str(number) for number in range(1000)]


def test_lines_arrive_without_an_end() -> None:
    """A line is written soon, though nothing follows."""
    stream = Slow()
    stream.may_go_on.set()
    with LogWriter(stream) as lines:
        lines.write("one\n")
        assert stream.reached.wait(WAIT_SECONDS)


def test_lines_after_the_end_are_written_at_once() -> None:
    """What happens last is not lost."""
    stream = io.StringIO()
    with LogWriter(stream) as lines:
        lines.write("one\n")
    lines.write("two\n")
    assert stream.getvalue() == "one\ntwo\n"


def test_nobody_waits_for_a_reader() -> None:
    """While nobody reads, writing continues, a bounded number of lines is kept, and how many were lost is told."""
    stream = Slow()
    with capture_logs() as told, LogWriter(stream, most_lines=10) as lines:
        lines.write("first\n")
        assert stream.reached.wait(WAIT_SECONDS)
        for number in range(25):
            lines.write(f"{number}\n")
        stream.may_go_on.set()
    assert stream.getvalue().split() == ["first", *map(str, range(10))]
    assert [line["lines"] for line in told] == [15]


@pytest.mark.parametrize("closed", [False, True])
def test_a_log_that_cannot_be_written_ends_nothing(*, closed: bool) -> None:
    """A broken or closed stream is no fault of a call."""
    stream = Broken()
    if closed:
        stream.close()
    with LogWriter(stream) as lines:
        assert lines.write("one\n") == len("one\n")
