"""Scenarios, and what they start and measure."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from benchmarks import pipeline_text, processes
from benchmarks.memory_use import memory_use
from benchmarks.processes import Adapter

from kfadapter_embedded.process import EmbeddedKfp, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure and its bound; without a bound it is for information."""

    what: str
    found: str
    bound: str = ""
    holds: bool = True


@dataclass(frozen=True)
class Stage:
    """An empty folder, the amount of work, and all that was started, which ends with the scenario."""

    folder: Path
    short: bool
    seed: int
    renew: bool = False
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def slack(self) -> float:
        """The factor for time limits: a short run shares its machine with others."""
        return 4.0 if self.short else 1.0

    def scaled(self, whole: int, short: int) -> int:
        """The amount of work."""
        return short if self.short else whole

    def chance(self, *names: object) -> random.Random:
        """Random numbers derived from the seed and `names`."""
        return random.Random(repr((self.seed, *names)))  # noqa: S311 - to be repeated, not to be secret

    def file(self, size: int) -> Path:
        """A pipeline file of that many bytes."""
        return pipeline_text.write_pipeline(self.folder, size)

    def enter(self, manager: AbstractContextManager[T]) -> T:
        """Enters a context that ends with the scenario."""
        return self.stack.enter_context(manager)

    def stand_in(self, seconds: float = 0) -> str:
        """Starts a stub of KFP with a fixed response time; returns its URL."""
        return self.enter(processes.stand_in(self.folder / "home", seconds))

    def embedded(self, data: Path, port: int = 0) -> EmbeddedKfp:
        """Starts an embedded KFP."""
        return self.enter(start(data, port))

    def adapter(self, kfp_url: str, *options: str, after: Adapter | None = None) -> Adapter:
        """Starts an adapter at a free port, or at the address of one that has ended."""
        if after is not None:
            after.__exit__()
        adapter = Adapter(kfp_url, self.folder / "home", *options, target=after.target if after is not None else "")
        self.enter(adapter).wait()
        return adapter


Run: TypeAlias = "Callable[[Stage], Iterator[Finding]]"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A statement, what it does not cover, and the function that proves it."""

    name: str
    proves: str
    not_covered: str
    run: Run


def scenario(*, not_covered: str) -> Callable[[Run], Scenario]:
    """Makes a scenario of a function, whose docstring is the statement that it proves."""
    return lambda run: Scenario(run.__name__.replace("_", "-"), run.__doc__ or "", not_covered, run)


@dataclass(frozen=True, slots=True)
class Use:
    """The resources that a process uses: MiB of memory (RSS), threads, open descriptors."""

    memory: float
    threads: int
    files: int

    @classmethod
    def of(cls, pid: int) -> Use:
        """Reads the resources that a process uses now."""
        threads, files = (len(list(Path(f"/proc/{pid}", name).iterdir())) for name in ("task", "fd"))
        return cls(memory_use(pid).resident, threads, files)


def grown(pid: int, before: Use, *, memory: float, threads: int, files: int) -> Iterator[Finding]:
    """The growth of a process since then; it has ten seconds to release what it is about to release."""
    end = time.monotonic() + 10
    while (now := Use.of(pid)).files > before.files + files or now.threads > before.threads + threads:
        if time.monotonic() > end:
            break
        time.sleep(0.1)
    yield at_most("memory grows by", now.memory - before.memory, memory, "MiB")
    yield at_most("threads grow by", now.threads - before.threads, threads)
    yield at_most("open descriptors grow by", now.files - before.files, files)


def exactly(what: str, found: object, expected: object) -> Finding:
    """A figure that must be one value."""
    return Finding(what, str(found), f"exactly {expected}", found == expected)


def none(what: str, found: object) -> Finding:
    """What must not occur: a number, or all that was found, in words."""
    return exactly(what, found or 0, 0)


def at_most(what: str, found: float, bound: float, unit: str = "") -> Finding:
    """A figure with an upper bound."""
    return Finding(what, _number(found, unit), f"at most {_number(bound, unit)}", found <= bound)


def at_least(what: str, found: float, bound: float, unit: str = "") -> Finding:
    """A figure with a lower bound."""
    return Finding(what, _number(found, unit), f"at least {_number(bound, unit)}", found >= bound)


def shown(what: str, found: float, unit: str = "") -> Finding:
    """A figure for information."""
    return Finding(what, _number(found, unit))


def _number(value: float, unit: str) -> str:
    text = f"{value:.3g}" if value != int(value) or abs(value) >= 1e6 else str(int(value))
    return f"{text} {unit}".rstrip()
