"""What a probe is, what it finds, and how it is declared."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kfadapter_grpc.kfp.probes.bench import Bench


SAYS_NOTHING = frozenset({401, 403, 429, 502, 503, 504})
"""Answers that say nothing about a fact: the caller is not let in, or KFP cannot serve now."""


class Outcome(enum.Enum):
    """What became of a probe."""

    HOLDS = "holds"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Probe:
    """One fact about KFP, and how to see whether it holds.

    Attributes:
        look: Tries it; returns what it found, or raises `DiffersError`, `CannotTellError` or what a request raises.
        name: A short name, lower case with hyphens.
        sentence: The fact.
        without: What the adapter does, or cannot do, where the fact does not hold.
        newer: What KFP 2.17.0 was found to do, as its manifests install it.
        older: What KFP 2.5.0 was found to do.
        needed: Whether the adapter fails some calls without it, instead of making up for it.
        writes: Whether it creates or deletes something.
        advice: What to do where it does not hold; if empty, to use a newer KFP.
    """

    look: Callable[[Bench], str]
    name: str
    sentence: str
    without: str
    newer: str = "yes"
    older: str = "yes"
    needed: bool = True
    writes: bool = False
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe found.

    Attributes:
        probe: The probe.
        outcome: What became of it.
        found: What was seen, or why nothing was.
        seconds: How long it took.
    """

    probe: Probe
    outcome: Outcome
    found: str
    seconds: float


PROBES: list[Probe] = []
"""Every fact that is probed, in the order in which they are tried."""


def fact(
    name: str,
    sentence: str,
    without: str,
    *,
    newer: str = "yes",
    older: str = "yes",
    needed: bool = True,
    writes: bool = False,
    advice: str = "",
) -> Callable[[Callable[[Bench], str]], Callable[[Bench], str]]:
    """Declares the function as the probe of a fact; the arguments are those of `Probe`."""

    def added(look: Callable[[Bench], str]) -> Callable[[Bench], str]:
        PROBES.append(Probe(look, name, sentence, without, newer, older, needed, writes, advice))
        return look

    return added
