"""Every kind of fault of KFP, and every RPC."""

from __future__ import annotations

import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from benchmarks.processes import Adapter
from tests.broken_kfp import closed_port, untrusted

from kfadapter_grpc.client import Client, HealthStatus
from kfadapter_grpc.contract import METHODS
from kfadapter_grpc.embedded.process import start
from robustness.documented import reasons, table_in_page, write_table
from robustness.faulty_kfp import BAD_TLS, FAULTS, REFUSE, FaultyKfp
from robustness.raw_calls import OK, Outcome, call
from robustness.records import NAME, one_of_each
from robustness.scenario import Finding, Scenario, Stage, at_most, exactly, told

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CALLS_AT_ONCE = 6
"""How many RPCs meet a fault at the same time."""
LATE_SECONDS = 0.25
"""By how much a call may end after its deadline."""
DEADLINE_SECONDS = 1.5
"""The deadline of calls to a KFP that answers slowly or not at all."""
PATIENT_SECONDS = 15.0
"""That of all others, so that the fault shows and not the deadline."""
_SLOW = frozenset({"stall", "drip"})
_REFUSALS = frozenset({"409"})
"""What says for certain that nothing was changed: then a change may be asked for again, after a look."""
_OPEN = "stays open"
_TIMED_OUT = "KFP_TIMEOUT"
_TABLE = "faults"
_UNTOLD = frozenset({OK, _OPEN})

Cells = dict[tuple[str, str], str]
"""How calls ended, by the RPC's path and the fault."""


class Proof:
    """Has every RPC meet faults, and notes what comes of it.

    Attributes:
        calls: How many calls were made.
        latest: The longest time that a call ended after its deadline, in seconds.
        repeated: Writes that KFP got more than once in one call.
        undocumented: Ends that the contract's comments do not name.
        lost: Faults after which the adapter did not answer as before.
    """

    def __init__(self, messages: Mapping[str, tuple[bytes, ...]]) -> None:
        self.calls = 0
        self.latest = 0.0
        self.repeated: Counter[str] = Counter()
        self.undocumented: Counter[str] = Counter()
        self.lost: list[str] = []
        self._messages = messages
        self._documented = reasons()

    def meet(self, fault: str, target: str, cells: Cells) -> None:
        """Calls every RPC while the fault lasts."""
        seconds = DEADLINE_SECONDS if fault in _SLOW else PATIENT_SECONDS
        with grpc.insecure_channel(target) as channel, ThreadPoolExecutor(CALLS_AT_ONCE) as threads:

            def one(path: str) -> Outcome:
                limit = DEADLINE_SECONDS if METHODS[path].endless else seconds
                outcome = call(channel, METHODS[path], self._messages[path], limit)
                self.latest = max(self.latest, outcome.seconds - limit)
                return outcome

            for path, outcome in zip(METHODS, threads.map(one, METHODS), strict=True):
                self.calls += 1
                cells[path, fault] = ended = _named(path, outcome)
                if ended not in self._documented[path] | _UNTOLD:
                    self.undocumented[f"{fault} {path}: {outcome.code} {ended}"] += 1

    def count_writes(self, fault: str, writes: Counter[str]) -> None:
        """Notes what KFP got more than once."""
        if fault not in _REFUSALS:
            self.repeated.update(f"{fault} {write}" for write, number in writes.items() if number > 1)

    def look(self, fault: str, target: str) -> None:
        """Looks whether the adapter answers as before."""
        with Client(target) as client:
            if client.health() is not HealthStatus.SERVING or client.get(NAME).name != NAME:
                self.lost.append(fault)


def _named(path: str, outcome: Outcome) -> str:
    if outcome.code != "DEADLINE_EXCEEDED":
        return outcome.reason or outcome.code
    # The caller's own clock may have been first: then there is a code without a reason.
    return _OPEN if METHODS[path].endless else _TIMED_OUT


def run(stage: Stage) -> Iterator[Finding]:
    """Calls every RPC under every fault: once everything meets with it, once only what changes something does."""
    everything: Cells = {}
    changes: Cells = {}
    with ExitStack() as stack:
        well = stack.enter_context(start(stage.folder / "kfp"))
        kfp = stack.enter_context(FaultyKfp(well.url))
        adapter = stack.enter_context(_adapter(kfp.url, stage))
        messages = {path: tuple(map(_bytes, sent)) for path, sent in one_of_each(adapter.target).items()}
        proof = Proof(messages)
        for fault, behaviour in FAULTS.items():
            if behaviour is None:
                continue
            for reads_too, cells in ((True, everything), (False, changes)):
                kfp.misbehave(behaviour, reads_too=reads_too)
                proof.meet(fault, adapter.target, cells)
                proof.count_writes(fault, kfp.writes())
                kfp.misbehave(None, reads_too=False)
                proof.look(fault, adapter.target)
        for fault, url in _elsewhere(stack):
            other = stack.enter_context(_adapter(url, stage))
            proof.meet(fault, other.target, everything)
    yield told("calls", proof.calls)
    yield exactly("RPCs of the contract without a call", len(METHODS.keys() - messages.keys()), 0)
    yield exactly("ends that the contract's comments do not name", dict(proof.undocumented) or 0, 0)
    late = LATE_SECONDS * stage.slack
    yield at_most("longest time that a call ended after its deadline", max(proof.latest, 0), late, "s")
    yield exactly("changes asked of KFP twice without a refusal in between", dict(proof.repeated) or 0, 0)
    yield exactly("faults after which the adapter did not serve", proof.lost or 0, 0)
    yield _compared(_table(everything, changes), stage)


def _adapter(url: str, stage: Stage) -> Adapter:
    adapter = Adapter(url, stage.home)
    adapter.wait()
    return adapter


def _elsewhere(stack: ExitStack) -> Iterator[tuple[str, str]]:
    """The faults that are an address of their own."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    yield REFUSE, closed_port()
    yield BAD_TLS, stack.enter_context(untrusted(folder))


def _bytes(message: object) -> bytes:
    data: bytes = message.SerializeToString()  # type: ignore[attr-defined]
    return data


def _table(everything: Cells, changes: Cells) -> str:
    """The ends as Markdown: RPCs that end alike share a line."""
    lines = ["| Fault | What meets with it | End of the call | RPCs |", "|---|---|---|---|"]
    for fault in FAULTS:
        for what, cells in (("everything", everything), ("changes only", changes)):
            lines += _lines(fault, what, cells)
    return "\n".join(lines) + "\n"


def _lines(fault: str, what: str, cells: Cells) -> Iterator[str]:
    rpcs: dict[str, list[str]] = {}
    for path, method in METHODS.items():
        if (path, fault) in cells and (what == "everything" or not method.read_only):
            rpcs.setdefault(cells[path, fault], []).append(f"{method.service.rpartition('.')[2]}/{method.name}")
    most = max(rpcs, key=lambda end: len(rpcs[end]), default="")
    for end, names in sorted(rpcs.items(), key=lambda item: -len(item[1])):
        others = "all others" if len(rpcs) > 1 else "all"
        yield f"| {fault} | {what} | `{end}` | {others if end == most else ', '.join(names)} |"


def _compared(table: str, stage: Stage) -> Finding:
    what = "the table in docs/robustness.md"
    if stage.renew:
        write_table(_TABLE, table)
        return Finding(what, "renewed")
    shown = table_in_page(_TABLE)
    missing = [line for line in table.splitlines() if line not in shown.splitlines()]
    found = "as found" if shown == table else f"differs: {missing}; --renew writes it"
    return exactly(what, found, "as found")


SCENARIO = Scenario(
    name="faults",
    proves="Whatever KFP does wrong, each RPC ends in time and as documented, and asks KFP for no change twice.",
    not_covered="faults that begin in the middle of a call that takes several requests, besides that its first change "
    "meets with one; a proxy that answers in KFP's place with words of its own.",
    run=run,
)
