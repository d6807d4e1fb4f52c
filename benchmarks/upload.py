"""Upload of a new pipeline: to KFP, to a stand-in with real response times, and to one with minimal cost."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.pipeline_text import KIB, MIB
from benchmarks.results import Row, absolute, added, figure, ratio
from benchmarks.rounds import take_turns, times
from benchmarks.sides import ADAPTER, CHUNK_BYTES, HTTP, SDK
from benchmarks.stage import PREFIX
from benchmarks.stand_in import NEW
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.upload.receive import receive_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from benchmarks.stage import Stage

_TO_KFP = {1 * MIB: 9, 8 * MIB: 5, 30 * MIB: 4}
"""How many rounds for each size."""
_TO_SINK = {1 * MIB: 9, 8 * MIB: 5, 30 * MIB: 3}
_TO_REAL = {40 * KIB: 41, 1 * MIB: 21, 8 * MIB: 7}
_GOALS = {40 * KIB: 1.3, 1 * MIB: 1.2, 8 * MIB: 1.1}
"""What the adapter may take of what kfp.Client takes, before a real KFP's times."""
_CHECKED_BYTES = 8 * MIB
_LEFT_MS = 20.0


def run(stage: Stage) -> Iterator[Row]:
    """Measures each size with each of them."""
    quick = stage.scale.quick
    stage.kfp()  # deletes the uploads at the end
    for size, rounds in _sizes(_TO_KFP, quick=quick):
        row = _upload(stage, size, "to KFP", stage.kfp_url(), PREFIX, rounds=rounds)
        aimed = size == max(_TO_KFP)
        against_http = ratio(row, ADAPTER, HTTP, "at most 1.1 x", at_most=1.1) if aimed else ratio(row, ADAPTER, HTTP)
        yield replace(row, findings=(against_http, ratio(row, SDK, HTTP)))
    for size, rounds in _sizes(_TO_REAL, quick=quick):
        row = _upload(stage, size, "to a KFP with real times", stage.real_stand_in_url(), NEW, rounds=rounds)
        goal = ratio(row, ADAPTER, SDK, f"at most {_GOALS[size]} x", at_most=_GOALS[size])
        yield replace(row, findings=(goal, added(row, ADAPTER, SDK)))
    for size, rounds in _sizes(_TO_SINK, quick=quick):
        row = _upload(stage, size, "to a sink", stage.stand_in_url(), NEW, rounds=rounds)
        yield replace(row, findings=(ratio(row, ADAPTER, HTTP), ratio(row, SDK, HTTP)))
    yield _left_to_check(stage.file(_CHECKED_BYTES), 2 if quick else 9)


def _sizes(rounds_of: Mapping[int, int], *, quick: bool) -> Iterator[tuple[int, int]]:
    """The sizes with their rounds; if quick, two rounds of the smallest."""
    return iter([(min(rounds_of), 2)] if quick else rounds_of.items())


def _upload(stage: Stage, size: int, where: str, url: str, prefix: str, *, rounds: int) -> Row:
    path = str(stage.file(size))
    sides = {side: partial(caller.do, "upload", path, prefix) for side, caller in stage.callers(url).items()}
    named = f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"
    return times("upload", f"Upload {named} {where}", take_turns(sides, rounds), chart=True)


def _left_to_check(path: Path, rounds: int) -> Row:
    """The time to finish receiving and checking a file after its last chunk, measured in this process."""
    data = path.read_bytes()
    chunks = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
    sha256 = hashlib.sha256(data).digest()
    seconds = []
    for _ in range(rounds):
        last = 0.0

        def arriving() -> Iterator[bytes]:
            nonlocal last
            for chunk in chunks:
                last = time.perf_counter()
                yield chunk

        with receive_file(arriving(), UploadLimits(), total_bytes=len(data), sha256=sha256, call=Call("benchmark", 60)):
            seconds.append(time.perf_counter() - last)
    what = f"Upload {len(data) // MIB} MiB: what is left to check after the last chunk"
    row = Row("upload", what, "ms", (figure(ADAPTER, seconds, scale=1000),))
    return replace(row, findings=(absolute(row, ADAPTER, f"at most {_LEFT_MS:g} ms", at_most=_LEFT_MS),))
