"""The typed command, and the next one: commands that can be pasted as they are."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from kfadapter_grpc.cli.options import ClientOptions

PROGRAM = "kfadapter"
PIPELINE = "NAME"
"""Placeholder in a step for the pipeline of the failed command."""
RUN = "RUN"
"""Placeholder in a step for the run of the failed command."""
_STDIN = "-"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_DEFAULT_PORT = "50051"


@dataclass(frozen=True, slots=True)
class Step:
    """A next step: a command derived from the failed one, and a text."""

    command: Callable[[Invocation], str]
    text: str = ""


def again(*options: str, text: str = "", without: str = "") -> Step:
    """Returns a step that repeats the command, with more options or without one."""
    return Step(lambda failed: failed.again(options, without), text)


def other(*command: str, text: str = "") -> Step:
    """Returns a step that runs another command for the same adapter."""
    return Step(lambda failed: failed.other(command), text)


def manual(text: str) -> Step:
    """Returns a step that shows the help of the failed command."""
    return Step(lambda failed: f"{failed.command} --help", text)


def start(text: str) -> Step:
    """Returns a step that starts an adapter on this machine."""
    return Step(Invocation.start, text)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command line, its full name, and the resources and options in it."""

    arguments: tuple[str, ...] = ()
    pipeline: str = ""
    options: ClientOptions = field(default_factory=ClientOptions)
    command: str = PROGRAM
    run: str = ""

    def format(self, step: str | Step) -> str:
        """Formats a step: the command on its own line, the text below it."""
        if isinstance(step, str):
            return step
        return "\n".join(part for part in (step.command(self), step.text) if part)

    def other(self, command: Sequence[str]) -> str:
        options = [*_option("--target", self.options.target), *_option("--namespace", self.options.namespace)]
        return shlex.join([PROGRAM, *self.options.arguments(), *options, *self._named(command)])

    def again(self, options: Sequence[str], without: str) -> str:
        if not self.arguments or _STDIN in self.arguments:  # a pipe into the command cannot be shown
            lost = f" without {without}" if without else ""
            return f"the same command{lost or ' again'}" + (f" with {shlex.join(options)}" if options else "")
        replaced = {word for word in (*options, without) if word.startswith("-")}
        end = self.arguments.index("--") if "--" in self.arguments else len(self.arguments)
        return shlex.join([PROGRAM, *_without_options(self.arguments[:end], replaced), *options, *self.arguments[end:]])

    def _named(self, command: Sequence[str]) -> Iterator[str]:
        """Inserts pipeline and run, so that neither is parsed as an option."""
        names = {PIPELINE: self.pipeline, RUN: self.run}
        before = ""
        for word in command:
            name = names.get(word, "")
            if name.startswith("-") and not before.startswith("-"):
                yield "--"
            yield name or word
            before = word

    def start(self) -> str:
        """Returns the command that starts an adapter, at the target's port if that is on this machine."""
        host, _, port = (self.options.target or "").rpartition(":")
        there = ["--port", port] if host in _LOOPBACK and port.isdecimal() and port != _DEFAULT_PORT else []
        return shlex.join([PROGRAM, "dev", *there])


def _option(name: str, value: str | None) -> list[str]:
    return [name, value] if value else []


def _without_options(arguments: Sequence[str], options: set[str]) -> Iterator[str]:
    waiting = iter(arguments)
    for word in waiting:
        if word in options:
            next(waiting, None)
        elif word.partition("=")[0] not in options:
            yield word


_current: ContextVar[Invocation] = ContextVar("invocation", default=Invocation())  # noqa: B039  it is frozen


def current() -> Invocation:
    """The current command, as far as known."""
    return _current.get()


def remember(**known: Any) -> None:  # noqa: ANN401  the fields of `Invocation`
    """Updates fields of the current invocation."""
    _current.set(replace(_current.get(), **known))


def begin(arguments: Sequence[str]) -> None:
    """Records the arguments of the program, and forgets an earlier command."""
    _current.set(Invocation(tuple(arguments)))
