"""Every kind of fault of KFP, and every RPC."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from tests.broken_kfp import closed_port, untrusted
from tests.system.between import BAD_TLS, FAULTS, REFUSE, FaultyKfp, changes_only, everything, from_the_nth_on
from tests.system.calls import OK, Outcome, call, serialized
from tests.system.records import HELLO, NAME, one_of_each
from tests.system.scenario import Finding, Scenario, Stage, at_most, exactly, none, shown

from kfadapter.v1 import pipeline_pb2, run_pb2
from kfadapter_embedded.process import start
from kfadapter_grpc.client import Client, HealthStatus
from kfadapter_grpc.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from google.protobuf.message import Message

PAGE = Path(__file__).resolve().parents[2] / "docs" / "robustness.md"
"""The page that holds the table."""
CALLS_AT_ONCE = 48
"""How many calls meet a fault at the same time: more than there are RPCs, as most of them only wait."""
LATE_SECONDS = 0.25
"""By how much a call may end after its deadline."""
DEADLINE_SECONDS, PATIENT_SECONDS = 1.5, 15.0
"""The deadline of calls to a KFP that answers slowly or not at all; and of all others, so that the fault shows."""
EVERYTHING, CHANGES, LATER = "everything", "changes only", "from a later request on"
"""What meets with a fault; the last: a call's second request or a later one, and all that follow."""
_SLOW, _REFUSALS = frozenset({"stall", "drip"}), frozenset({"409"})
"""Faults that take time; and those after which a change may be requested again, as nothing was changed for certain."""
_OPEN = "stays open"
_MARK = "later"

Messages: TypeAlias = "Mapping[str, tuple[Message, ...]]"
"""The messages of a call of every RPC, by its path."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A call, of which the request to KFP with the number `begin` is the first to meet with a fault."""

    path: str
    messages: tuple[Message, ...]
    request_id: str = ""
    begin: int = 1


class Proof:
    """Has calls meet faults, and notes what comes of it."""

    def __init__(self) -> None:
        self.calls, self.latest = 0, 0.0
        self.repeated: Counter[str] = Counter()
        self.undocumented: Counter[str] = Counter()
        self.unmet: list[str] = []
        self.lost: list[str] = []
        self.ends: dict[str, dict[tuple[str, str], set[str]]] = {EVERYTHING: {}, CHANGES: {}, LATER: {}}
        self._documented = documented_reasons()

    def meet(self, fault: str, what: str, target: str, calls: Sequence[Planned]) -> None:
        """Makes calls while the fault lasts."""
        with grpc.insecure_channel(target) as channel, ThreadPoolExecutor(CALLS_AT_ONCE) as threads:

            def one(planned: Planned) -> Outcome:
                short = fault in _SLOW or METHODS[planned.path].endless
                limit = DEADLINE_SECONDS if short else PATIENT_SECONDS
                outcome = call(channel, planned.path, serialized(*planned.messages), limit, planned.request_id)
                self.latest = max(self.latest, outcome.seconds - limit)
                return outcome

            for planned, outcome in zip(calls, threads.map(one, calls), strict=True):
                self.calls += 1
                ended = outcome.reason or outcome.code
                if outcome.code == "DEADLINE_EXCEEDED":  # the caller's own clock may have been first
                    ended = _OPEN if METHODS[planned.path].endless else "KFP_TIMEOUT"
                self.ends[what].setdefault((planned.path, fault), set()).add(ended)
                if ended not in self._documented[planned.path] | {OK, _OPEN}:
                    self.undocumented[f"{fault}, {what}: {planned.path}: {outcome.code} {ended}"] += 1

    def look(self, fault: str, kfp: FaultyKfp, target: str, calls: Sequence[Planned]) -> None:
        """Ends the fault, and looks what KFP was asked meanwhile and whether the adapter answers as before."""
        came, writes = kfp.came(), kfp.writes()
        kfp.misbehave(None)
        self.unmet += (f"{fault}: {one.request_id}" for one in calls if one.begin > max(1, came[one.request_id]))
        if fault not in _REFUSALS:
            self.repeated.update(f"{fault} {write}" for (_, write), number in writes.items() if number > 1)
        with Client(target) as client:
            if client.health() is not HealthStatus.SERVING or client.pipelines.get(NAME).name != NAME:
                self.lost.append(fault)


def run(stage: Stage) -> Iterator[Finding]:
    """Calls every RPC under every fault: everything meets with it, what changes something does, or a later request."""
    proof, options = Proof(), ("--max-uploads", str(CALLS_AT_ONCE))
    answered = [(fault, behaviour) for fault, behaviour in FAULTS.items() if behaviour is not None]
    with ExitStack() as stack:
        counting = stack.enter_context(ThreadPoolExecutor(1)).submit(_count_requests, stage)
        well = stack.enter_context(start(stage.folder / "kfp"))
        kfp = stack.enter_context(FaultyKfp(well.url))
        target = stage.adapter(stack, kfp.url, *options).target
        messages: Messages = one_of_each(target)
        calls = [Planned(path, messages[path], f"faults-{number}") for number, path in enumerate(METHODS)]
        changes = [one for one in calls if not METHODS[one.path].read_only]
        for fault, behaviour in answered:
            for what, meets, chosen in ((EVERYTHING, everything, calls), (CHANGES, changes_only, changes)):
                kfp.misbehave(behaviour, meets)
                proof.meet(fault, what, target, chosen)
                proof.look(fault, kfp, target, chosen)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for fault, url in ((REFUSE, closed_port()), (BAD_TLS, stack.enter_context(untrusted(folder)))):
            proof.meet(fault, EVERYTHING, stage.adapter(stack, url, *options).target, calls)
        at_once = proof.calls
        for fault, behaviour in answered:
            later = list(_from_within(messages, counting.result(), fault))
            kfp.misbehave(behaviour, from_the_nth_on({one.request_id: one.begin for one in later}))
            proof.meet(fault, LATER, target, later)
            proof.look(fault, kfp, target, later)
            messages = _undone(target, messages)
    yield shown("calls", proof.calls)
    yield shown("of these under a fault that began in the middle", proof.calls - at_once)
    yield none("RPCs of the contract without a call", len(METHODS.keys() - messages.keys()))
    yield none("ends that the contract's comments do not name", dict(proof.undocumented))
    late = LATE_SECONDS * stage.slack
    yield at_most("longest time that a call ended after its deadline", max(proof.latest, 0), late, "s")
    yield none("changes requested of KFP twice without a refusal in between", dict(proof.repeated))
    yield none("calls that ended before their fault began", proof.unmet)
    yield none("faults after which the adapter did not serve", proof.lost)
    yield _compared(_table(proof), stage)


def _kinds(messages: Messages) -> Iterator[tuple[str, Planned]]:
    """Every RPC, and those again that take other ways when they are called otherwise."""
    for path, sent in messages.items():
        yield METHODS[path].name + path.split(".")[2].partition("Service")[0], Planned(path, sent)
    metadata = pipeline_pb2.UploadPipelineMetadata(name=NAME, request_id=_MARK)
    parts: tuple[dict[str, Any], ...] = ({"metadata": metadata}, {"chunk": HELLO.read_bytes()})
    upload = tuple(pipeline_pb2.UploadPipelineRequest(**part) for part in parts)
    yield "UploadNext", Planned("/kfadapter.v1.PipelineService/Upload", upload)
    by_name = run_pb2.CreateRunRequest(pipeline_name="container", request_id=_MARK)
    yield "CreateByName", Planned("/kfadapter.v1.RunService/Create", (by_name,))


def _count_requests(stage: Stage) -> dict[str, int]:
    """Makes a call of every kind before a KFP that is well; returns by its name how many requests each took."""
    with ExitStack() as stack:
        kfp = stack.enter_context(FaultyKfp(stack.enter_context(start(stage.folder / "counted")).url))
        target = stage.adapter(stack, kfp.url).target
        kinds = dict(_kinds(one_of_each(target)))
        kfp.misbehave(None)
        channel = stack.enter_context(grpc.insecure_channel(target))
        # What others still need is deleted last, and a pipeline after its version.
        for name in sorted(kinds, key=lambda name: (name.startswith("Delete"), name == "DeletePipeline")):
            path, sent = kinds[name].path, serialized(*kinds[name].messages)
            if not METHODS[path].endless and (ended := call(channel, path, sent, 20, name)).code != OK:
                raise RuntimeError(f"{name} failed without a fault: {ended}")
        came = kfp.came()
    return {name: came[name] for name in kinds}


def _from_within(messages: Messages, counts: Mapping[str, int], fault: str) -> Iterator[Planned]:
    """Yields each call once for each of its requests to KFP after the first, which is then the first to fail.

    Each has a name and a request id of its own, so that it meets no other that is under way.
    """
    for name, one in _kinds(messages):
        for begin in range(2, counts[name] + 1):
            request_id = f"{name}-{begin}-{fault}".replace(" ", "-")
            first, *rest = one.messages
            if isinstance(first, pipeline_pb2.UploadPipelineRequest):
                first = type(first).FromString(first.SerializeToString())
                first.metadata.request_id = request_id
                first.metadata.name += f"-{_MARK}-{begin}" if first.metadata.name != NAME else ""
            elif isinstance(first, run_pb2.CreateRunRequest):
                first = type(first).FromString(first.SerializeToString())
                first.request_id = request_id
            yield replace(one, messages=(first, *rest), request_id=request_id, begin=begin)


def _undone(target: str, messages: Messages) -> Messages:
    """Undoes what calls have changed before their fault began; returns the messages of the same calls from now on."""

    def id_in(rpc: str, key: str) -> str:
        return str(getattr(messages[f"/kfadapter.v1.{rpc}"][0], key))

    with Client(target) as client:
        for pipeline in list(client.pipelines.list(name_contains=f"-{_MARK}-")):
            client.pipelines.delete(pipeline_id=pipeline.pipeline_id, force=True)
        client.runs.unarchive(id_in("RunService/Archive", "run_id"))
        client.runs.archive(id_in("RunService/Unarchive", "run_id"))
        client.experiments.unarchive(id_in("ExperimentService/Archive", "experiment_id"))
        client.experiments.archive(id_in("ExperimentService/Unarchive", "experiment_id"))
        client.recurring_runs.disable(id_in("RecurringRunService/Enable", "recurring_run_id"))
        client.recurring_runs.enable(id_in("RecurringRunService/Disable", "recurring_run_id"))
        client.runs.wait(id_in("RunService/Retry", "run_id"), timeout=60)
        running = client.runs.create("sleeps", parameters={"seconds": 3600}).run_id
    return {**messages, "/kfadapter.v1.RunService/Terminate": (run_pb2.TerminateRunRequest(run_id=running),)}


def documented_reasons() -> dict[str, frozenset[str]]:
    """The reasons that the contract's comments name, by the RPC's path; those of the service's comment included."""
    found: dict[str, frozenset[str]] = {}
    of_all: dict[str, frozenset[str]] = {}
    for file in (PAGE.parents[1] / "protos" / "kfadapter" / "v1").glob("*.proto"):
        service, noted = "", set[str]()
        for line in file.read_text(encoding="utf-8").splitlines():
            if reason := re.search(r"// - [A-Z_]+ / ([A-Z_]+)", line):
                noted.add(reason[1])
            elif begins := re.match(r"^service (\w+)", line):
                service, of_all[begins[1]], noted = begins[1], frozenset(noted), set()
            elif rpc := re.match(r"^  rpc (\w+)\(", line):
                found[f"/kfadapter.v1.{service}/{rpc[1]}"], noted = frozenset(noted), set()
    # The services without a list of their own name that of RunService.
    return {
        path: own | (of_all[path.split(".")[2].split("/")[0]] or of_all["RunService"]) for path, own in found.items()
    }


def _table(proof: Proof) -> str:
    """The ends as Markdown: RPCs that end alike share a line."""
    lines = ["| Fault | What meets with it | End of the call | RPCs |", "|---|---|---|---|"]
    for fault in FAULTS:
        for what, found in proof.ends.items():
            rpcs: dict[str, list[str]] = {}
            for path, method in METHODS.items():
                if (path, fault) in found:
                    end = " or ".join(f"`{one}`" for one in sorted(found[path, fault]))
                    rpcs.setdefault(end, []).append(f"{method.service.rpartition('.')[2]}/{method.name}")
            most = max(rpcs, key=lambda end: len(rpcs[end]), default="")
            others = "all others" if len(rpcs) > 1 else "all"
            for end, names in sorted(rpcs.items(), key=lambda item: -len(item[1])):
                lines.append(f"| {fault} | {what} | {end} | {others if end == most else ', '.join(names)} |")
    return "\n".join(lines) + "\n"


def _compared(table: str, stage: Stage) -> Finding:
    """Compares the table of the page with what was found, or writes it anew."""
    what, text = "the table in docs/robustness.md", PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition("<!-- faults: made by `scripts/robustness --renew faults` -->\n\n")
    now, end, after = rest.partition("\n<!-- end of faults -->")
    if stage.renew:
        PAGE.write_text(before + begin + table + end + after, encoding="utf-8")
        return Finding(what, "renewed")
    missing = [line for line in table.splitlines() if line not in now.splitlines()]
    return exactly(what, "as found" if now == table else f"differs: {missing}; --renew writes it", "as found")


SCENARIO = Scenario(
    "faults",
    "Whatever KFP does wrong, each RPC ends in time and as documented, and requests no change of KFP twice.",
    "a fault that ends while the call lasts; a proxy that answers in KFP's place with words of its own.",
    run,
)
