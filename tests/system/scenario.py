"""What a scenario is made of, and what it starts and measures."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.memory_use import memory_use
from benchmarks.processes import Adapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure, and what it must be; one without a bound only informs."""

    what: str
    found: str
    bound: str = ""
    holds: bool = True


@dataclass(frozen=True, slots=True)
class Stage:
    """What a scenario works with: an empty folder of its own, and how much to do."""

    folder: Path
    short: bool
    seed: int
    renew: bool = False

    @property
    def home(self) -> Path:
        """An empty home folder for processes."""
        return self.folder / "home"

    @property
    def slack(self) -> float:
        """By how much times may be longer than in a whole run: a short one shares its machine with others."""
        return 4.0 if self.short else 1.0

    def chance(self, *names: object) -> random.Random:
        """Random numbers that follow from the seed and `names`."""
        return random.Random(repr((self.seed, *names)))  # noqa: S311 - to be repeated, not to be secret

    def scaled(self, whole: int, short: int) -> int:
        """How much to do."""
        return short if self.short else whole

    def adapter(self, stack: ExitStack, kfp_url: str, *options: str) -> Adapter:
        """Starts an adapter, which runs until `stack` ends."""
        adapter = stack.enter_context(Adapter(kfp_url, self.home, *options))
        adapter.wait()
        return adapter


@dataclass(frozen=True, slots=True)
class Scenario:
    """A sentence, what it leaves out, and what shows that it is true."""

    name: str
    proves: str
    not_covered: str
    run: Callable[[Stage], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Use:
    """What a process uses at a moment: MiB of memory (RSS), threads, open descriptors."""

    memory: float
    threads: int
    files: int

    @classmethod
    def of(cls, pid: int) -> Use:
        """Reads what a process uses now."""
        process = Path(f"/proc/{pid}")
        threads, files = (len(list((process / name).iterdir())) for name in ("task", "fd"))
        return cls(memory_use(pid).resident, threads, files)


def grown(pid: int, before: Use, *, memory: float, threads: int, files: int) -> Iterator[Finding]:
    """By how much a process has grown since; what it is about to let go of has ten seconds for that."""
    end = time.monotonic() + 10
    while True:
        now = Use.of(pid)
        if (now.files <= before.files and now.threads <= before.threads) or time.monotonic() > end:
            break
        time.sleep(0.1)
    yield at_most("memory grows by", now.memory - before.memory, memory, "MiB")
    yield at_most("threads grow by", now.threads - before.threads, threads)
    yield at_most("open descriptors grow by", now.files - before.files, files)


def exactly(what: str, found: object, expected: object) -> Finding:
    """A figure that must be one value."""
    return Finding(what, str(found), f"exactly {expected}", found == expected)


def none(what: str, found: object) -> Finding:
    """Something that must not be: a number, or all that was found, in words."""
    return exactly(what, found or 0, 0)


def at_most(what: str, found: float, bound: float, unit: str = "") -> Finding:
    """A figure that must not be larger."""
    return Finding(what, _number(found, unit), f"at most {_number(bound, unit)}", found <= bound)


def at_least(what: str, found: float, bound: float, unit: str = "") -> Finding:
    """A figure that must not be smaller."""
    return Finding(what, _number(found, unit), f"at least {_number(bound, unit)}", found >= bound)


def shown(what: str, found: float, unit: str = "") -> Finding:
    """A figure that only informs."""
    return Finding(what, _number(found, unit))


def _number(value: float, unit: str) -> str:
    text = f"{value:.3g}" if value != int(value) or abs(value) >= 1e6 else str(int(value))
    return f"{text} {unit}".rstrip()
