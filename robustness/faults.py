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

from kfadapter_embedded.process import start
from kfadapter_grpc.client import Client, HealthStatus
from kfadapter_grpc.methods import METHODS
from robustness.documented import reasons
from robustness.fault_table import Ends, compared
from robustness.faulty_kfp import BAD_TLS, FAULTS, REFUSE, FaultyKfp, changes_only, everything, from_the_nth_on
from robustness.later_requests import Messages, Planned, calls_from_within, count_requests, put_back
from robustness.raw_calls import OK, Outcome, call
from robustness.records import NAME, one_of_each
from robustness.scenario import Finding, Scenario, Stage, at_most, exactly, told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.scripted_kfp import Behaviour

CALLS_AT_ONCE = 48
"""How many calls meet a fault at the same time: more than there are RPCs, as most of them only wait."""
LATE_SECONDS = 0.25
"""By how much a call may end after its deadline."""
DEADLINE_SECONDS = 1.5
"""The deadline of calls to a KFP that answers slowly or not at all."""
PATIENT_SECONDS = 15.0
"""That of all others, so that the fault shows and not the deadline."""
EVERYTHING, CHANGES, LATER = "everything", "changes only", "from a later request on"
"""What meets with a fault; the last: a call's second request or a later one, and all that follow."""
_SLOW = frozenset({"stall", "drip"})
_REFUSALS = frozenset({"409"})
"""What says for certain that nothing was changed: then a change may be asked for again, after a look."""
_OPEN = "stays open"
_TIMED_OUT = "KFP_TIMEOUT"
_UNTOLD = frozenset({OK, _OPEN})


class Proof:
    """Has calls meet faults, and notes what comes of it.

    Attributes:
        calls: How many calls were made.
        latest: The longest time that a call ended after its deadline, in seconds.
        repeated: Writes that KFP got more than once in one call.
        undocumented: Ends that the contract's comments do not name.
        unmet: Calls that were over before their fault began.
        lost: Faults after which the adapter did not answer as before.
        ends: How calls ended, by what met with the fault.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.latest = 0.0
        self.repeated: Counter[str] = Counter()
        self.undocumented: Counter[str] = Counter()
        self.unmet: list[str] = []
        self.lost: list[str] = []
        self.ends: dict[str, Ends] = {EVERYTHING: {}, CHANGES: {}, LATER: {}}
        self._documented = reasons()

    def meet(self, fault: str, what: str, target: str, calls: Sequence[Planned]) -> None:
        """Makes calls while the fault lasts."""
        seconds = DEADLINE_SECONDS if fault in _SLOW else PATIENT_SECONDS
        with grpc.insecure_channel(target) as channel, ThreadPoolExecutor(CALLS_AT_ONCE) as threads:

            def one(planned: Planned) -> Outcome:
                method = METHODS[planned.path]
                limit = DEADLINE_SECONDS if method.endless else seconds
                outcome = call(channel, method, planned.sent, limit, planned.request_id)
                self.latest = max(self.latest, outcome.seconds - limit)
                return outcome

            for planned, outcome in zip(calls, threads.map(one, calls), strict=True):
                self.calls += 1
                ended = _named(planned.path, outcome)
                self.ends[what].setdefault((planned.path, fault), set()).add(ended)
                if ended not in self._documented[planned.path] | _UNTOLD:
                    self.undocumented[f"{fault}, {what}: {planned.path}: {outcome.code} {ended}"] += 1

    def look(self, fault: str, kfp: FaultyKfp, target: str, calls: Sequence[Planned]) -> None:
        """Ends the fault, and looks what KFP was asked for meanwhile and whether the adapter answers as before."""
        asked, writes = kfp.requests(), kfp.writes()
        kfp.misbehave(None)
        self.unmet += (f"{fault}: {one.request_id}" for one in calls if one.begin > max(1, asked[one.request_id]))
        if fault not in _REFUSALS:
            self.repeated.update(f"{fault} {write}" for (_, write), number in writes.items() if number > 1)
        with Client(target) as client:
            if client.health() is not HealthStatus.SERVING or client.pipelines.get(NAME).name != NAME:
                self.lost.append(fault)


def _named(path: str, outcome: Outcome) -> str:
    if outcome.code != "DEADLINE_EXCEEDED":
        return outcome.reason or outcome.code
    # The caller's own clock may have been first: then there is a code without a reason.
    return _OPEN if METHODS[path].endless else _TIMED_OUT


def run(stage: Stage) -> Iterator[Finding]:
    """Calls every RPC under every fault: everything meets with it, what changes something does, or a later request."""
    proof = Proof()
    with ExitStack() as stack:
        counting = stack.enter_context(ThreadPoolExecutor(1)).submit(count_requests, stage)
        well = stack.enter_context(start(stage.folder / "kfp"))
        kfp = stack.enter_context(FaultyKfp(well.url))
        adapter = stack.enter_context(_adapter(kfp.url, stage))
        messages: Messages = one_of_each(adapter.target)
        calls = [Planned(path, messages[path], f"faults-{number}") for number, path in enumerate(METHODS)]
        changes = [one for one in calls if not METHODS[one.path].read_only]
        for fault, behaviour in _of_answers():
            for what, meets, chosen in ((EVERYTHING, everything, calls), (CHANGES, changes_only, changes)):
                kfp.misbehave(behaviour, meets)
                proof.meet(fault, what, adapter.target, chosen)
                proof.look(fault, kfp, adapter.target, chosen)
        for fault, url in _elsewhere(stack):
            other = stack.enter_context(_adapter(url, stage))
            proof.meet(fault, EVERYTHING, other.target, calls)
        at_once = proof.calls
        for fault, behaviour in _of_answers():
            later = list(calls_from_within(messages, counting.result(), fault))
            kfp.misbehave(behaviour, from_the_nth_on({one.request_id: one.begin for one in later}))
            proof.meet(fault, LATER, adapter.target, later)
            proof.look(fault, kfp, adapter.target, later)
            messages = put_back(adapter.target, messages)
    yield told("calls", proof.calls)
    yield told("of these under a fault that began in the middle", proof.calls - at_once)
    yield exactly("RPCs of the contract without a call", len(METHODS.keys() - messages.keys()), 0)
    yield exactly("ends that the contract's comments do not name", dict(proof.undocumented) or 0, 0)
    late = LATE_SECONDS * stage.slack
    yield at_most("longest time that a call ended after its deadline", max(proof.latest, 0), late, "s")
    yield exactly("changes asked of KFP twice without a refusal in between", dict(proof.repeated) or 0, 0)
    yield exactly("calls that were over before their fault began", proof.unmet or 0, 0)
    yield exactly("faults after which the adapter did not serve", proof.lost or 0, 0)
    yield compared(proof.ends, stage)


def _of_answers() -> Iterator[tuple[str, Behaviour]]:
    """The faults that a KFP answers with."""
    return ((fault, behaviour) for fault, behaviour in FAULTS.items() if behaviour is not None)


def _adapter(url: str, stage: Stage) -> Adapter:
    adapter = Adapter(url, stage.home, "--max-uploads", str(CALLS_AT_ONCE))
    adapter.wait()
    return adapter


def _elsewhere(stack: ExitStack) -> Iterator[tuple[str, str]]:
    """The faults that are an address of their own."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    yield REFUSE, closed_port()
    yield BAD_TLS, stack.enter_context(untrusted(folder))


SCENARIO = Scenario(
    name="faults",
    proves="Whatever KFP does wrong, each RPC ends in time and as documented, and asks KFP for no change twice.",
    not_covered="a fault that ends while the call lasts; a proxy that answers in KFP's place with words of its own.",
    run=run,
)
