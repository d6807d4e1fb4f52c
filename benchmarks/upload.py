"""Upload of a new pipeline: to KFP, and to a stand-in that reads as fast as it can."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.pipeline_text import MIB
from benchmarks.results import ratio
from benchmarks.rounds import take_turns, times
from benchmarks.sides import ADAPTER, HTTP, SDK
from benchmarks.stage import PREFIX
from benchmarks.stand_in import NEW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.results import Row
    from benchmarks.stage import Stage

SIZES = (1, 8, 30)
"""In MiB."""
_ROUNDS = {1: 9, 8: 5, 30: 4}
_SINK_ROUNDS = {1: 9, 8: 5, 30: 3}


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who takes the uploads.

    Attributes:
        title: In words.
        url: Where it is.
        prefix: Begins the names that are new to it.
    """

    title: str
    url: str
    prefix: str


def run(stage: Stage) -> Iterator[Row]:
    """Measures each size to either of them."""
    for size in SIZES[:1] if stage.scale.quick else SIZES:
        stage.kfp()  # removes at the end what is uploaded here
        rounds = 2 if stage.scale.quick else _ROUNDS[size]
        yield _upload(stage, size, Receiver("to KFP", stage.kfp_url(), PREFIX), rounds)
    for size in SIZES[:1] if stage.scale.quick else SIZES:
        rounds = 1 if stage.scale.quick else _SINK_ROUNDS[size]
        yield _upload(stage, size, Receiver("to a sink", stage.stand_in_url(), NEW), rounds)


def _upload(stage: Stage, size: int, receiver: Receiver, rounds: int) -> Row:
    path = str(stage.file(size * MIB))
    callers = stage.callers(receiver.url)
    sides = {side: partial(caller.do, "upload", path, receiver.prefix) for side, caller in callers.items()}
    what = f"Upload {size} MiB {receiver.title}"
    row = times("upload", what, take_turns(sides, rounds, warm_up=size == SIZES[0]), chart=True)
    aimed = size == SIZES[-1] and receiver.prefix == PREFIX
    against_http = ratio(row, ADAPTER, HTTP, "at most 1.1 x", at_most=1.1) if aimed else ratio(row, ADAPTER, HTTP)
    return replace(row, findings=(against_http, ratio(row, SDK, HTTP)))
