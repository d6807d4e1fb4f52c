"""What was typed, and what to type next: commands that can be pasted as they are."""

from __future__ import annotations

import shlex
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kfadapter_grpc.cli.options import ClientOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROGRAM = "kfadapter"
"""What the program is called."""
PIPELINE = "NAME"
"""Stands in a step for the pipeline that the failed command was about."""
RUN = "RUN"
"""Stands in a step for the run that the failed command was about."""
_STDIN = "-"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_DEFAULT_PORT = "50051"


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next: a command, words, or a command and words about it.

    Attributes:
        words: What it does, or what to do where no command helps.
        command: Another command towards the same adapter.
        again: Whether the command is the same one again.
        options: What is added to the same command; what it had of them is replaced.
        without: Which option the same command is to lose.
        start: Whether an adapter is to be started.
        manual: Whether the help of the failed command says more.
    """

    words: str = ""
    command: tuple[str, ...] = ()
    again: bool = False
    options: tuple[str, ...] = ()
    without: str = ""
    start: bool = False
    manual: bool = False


def again(*options: str, words: str = "", without: str = "") -> Step:
    """Makes a step of the same command, with more options or without one."""
    return Step(words, again=True, options=options, without=without)


def other(*command: str, words: str = "") -> Step:
    """Makes a step of another command towards the same adapter."""
    return Step(words, command=command)


def manual(words: str) -> Step:
    """Makes a step that reads the help of the command that failed."""
    return Step(words, manual=True)


def start(words: str) -> Step:
    """Makes a step that starts an adapter on this machine."""
    return Step(words, start=True)


def do(words: str) -> Step:
    """Makes a step that is no command."""
    return Step(words)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command line and what it is about.

    Attributes:
        words: What was typed behind the program's name; empty outside of the command line.
        pipeline: The pipeline that was named, if any.
        run: The run that was named, if any.
        options: Which adapter was meant.
        command: The command's name behind the program's, as `kfadapter get`.
    """

    words: tuple[str, ...] = ()
    pipeline: str = ""
    options: ClientOptions = field(default_factory=ClientOptions)
    command: str = PROGRAM
    run: str = ""

    def spell(self, step: Step) -> str:
        """Writes a step down: the command on a line of its own, the words below it."""
        if step.again:
            command = self._again(step)
        elif step.start:
            command = self._start()
        elif step.manual:
            command = f"{self.command} --help"
        elif step.command:
            where = [*_option("--target", self.options.target), *_option("--namespace", self.options.namespace)]
            command = shlex.join([PROGRAM, *self.options.words(), *where, *self._named(step.command)])
        else:
            command = ""
        return "\n".join(part for part in (command, step.words) if part)

    def _again(self, step: Step) -> str:
        if not self.words or _STDIN in self.words:  # a pipe that leads to the command cannot be shown
            options = shlex.join(step.options)
            lost = f" without {step.without}" if step.without else ""
            return f"the same command{lost or ' again'}" + (f" with {options}" if options else "")
        replaced = {word for word in (*step.options, step.without) if word.startswith("--")}
        end = self.words.index("--") if "--" in self.words else len(self.words)
        return shlex.join([PROGRAM, *_lose(self.words[:end], replaced), *step.options, *self.words[end:]])

    def _named(self, command: Sequence[str]) -> Iterator[str]:
        """Puts pipeline and run in their places, so that none is taken for an option."""
        names = {PIPELINE: self.pipeline, RUN: self.run}
        before = ""
        for word in command:
            name = names.get(word, "")
            if name.startswith("-") and not before.startswith("-"):
                yield "--"
            yield name or word
            before = word

    def _start(self) -> str:
        """Starts an adapter where one was looked for, if that can be on this machine."""
        host, _, port = (self.options.target or "").rpartition(":")
        there = ["--port", port] if host in _LOOPBACK and port.isdecimal() and port != _DEFAULT_PORT else []
        return shlex.join([PROGRAM, "dev", *there])


def _option(name: str, value: str | None) -> list[str]:
    return [name, value] if value else []


def _lose(words: Sequence[str], options: set[str]) -> Iterator[str]:
    """Yields the words but these options and their values."""
    waiting = iter(words)
    for word in waiting:
        if word in options:
            next(waiting, None)
        elif word.partition("=")[0] not in options:
            yield word


_current: ContextVar[Invocation] = ContextVar("invocation", default=Invocation())  # noqa: B039  it is frozen


def current() -> Invocation:
    """The command that runs, as far as it is known."""
    return _current.get()


def remember(**known: Any) -> None:  # noqa: ANN401  the fields of `Invocation`
    """Keeps what is known of the command that runs, by the names of the fields of `Invocation`."""
    _current.set(replace(_current.get(), **known))


def begin(words: Sequence[str]) -> None:
    """Keeps what was typed behind the program's name, and nothing of an earlier command."""
    _current.set(Invocation(tuple(words)))
