"""Every kind of fault of KFP, with every RPC."""

from __future__ import annotations

import itertools
import re
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import grpc
from tests.broken_kfp import closed_port, untrusted
from tests.system.between import BAD_TLS, FAULTS, REFUSE, FaultyKfp, changes_only, everything, from_the_nth_on
from tests.system.load import OK, call
from tests.system.records import HELLO, NAME, one_of_each, upload
from tests.system.scenario import Finding, Stage, at_most, none, scenario, shown

from kfadapter.v1 import pipeline_pb2, run_pb2
from kfadapter_grpc import methods
from kfadapter_grpc.client import Client, HealthStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from google.protobuf.message import Message
    from tests.scripted_kfp import Behaviour
    from tests.system.between import Meets

METHODS = {path: method for path, method in methods.METHODS.items() if method.role}
"""The RPCs that call KFP."""
PAGE = Path(__file__).resolve().parents[2] / "docs" / "robustness.md"
"""The page that holds the table."""
CALLS_AT_ONCE = 48
"""How many calls meet a fault at the same time: more than there are RPCs, as most of them only wait."""
OPTIONS = ("--max-uploads", str(CALLS_AT_ONCE))
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
Ends: TypeAlias = "Mapping[tuple[str, str, str], frozenset[str]]"
"""How calls ended, by fault, by what met with it, and by the RPC's path."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A call whose request to KFP with the number `begin` is the first to fail."""

    path: str
    messages: tuple[Message, ...]
    request_id: str = ""
    begin: int = 1


@dataclass(frozen=True, slots=True)
class End:
    """How a call ended: its reason, and how many seconds after its deadline."""

    fault: str
    what: str
    path: str
    reason: str
    late: float


def _meet(fault: str, what: str, target: str, calls: Sequence[Planned]) -> list[End]:
    """Makes calls while a fault lasts."""
    with grpc.insecure_channel(target) as channel, ThreadPoolExecutor(CALLS_AT_ONCE) as threads:

        def one(planned: Planned) -> End:
            endless = METHODS[planned.path].endless
            limit = DEADLINE_SECONDS if endless or fault in _SLOW else PATIENT_SECONDS
            ended = call(channel, planned.path, planned.messages, limit, planned.request_id)
            reason = ended.reason or ended.code
            if ended.code == "DEADLINE_EXCEEDED":  # the client's own clock may have been first
                reason = _OPEN if endless else "KFP_TIMEOUT"
            return End(fault, what, planned.path, reason, ended.seconds - limit)

        return list(threads.map(one, calls))


@scenario(not_covered="a fault that ends while the call lasts; a proxy that answers in KFP's place in its own words.")
def faults(stage: Stage) -> Iterator[Finding]:
    """For any fault of KFP, each RPC ends in time and as documented, and requests no change of KFP twice."""
    ends, repeated, unmet, lost = list[End](), Counter[str](), list[str](), list[str]()
    answered = [(fault, behaviour) for fault, behaviour in FAULTS.items() if behaviour is not None]
    counting = stage.enter(ThreadPoolExecutor(1)).submit(_count_requests, stage)
    kfp, target, messages = _begun(stage, "kfp")
    client = stage.enter(Client(target))

    def meet(fault: str, what: str, behaviour: Behaviour, meets: Meets, calls: Sequence[Planned]) -> None:
        """Makes calls during a fault, ends it, and checks what KFP received and whether the adapter serves."""
        kfp.misbehave(behaviour, meets)
        ends.extend(_meet(fault, what, target, calls))
        came, writes = kfp.came(), kfp.writes()
        kfp.misbehave(None)
        unmet.extend(f"{fault}: {one.request_id}" for one in calls if one.begin > max(1, came[one.request_id]))
        if fault not in _REFUSALS:
            repeated.update(f"{fault} {write}" for (_, write), number in writes.items() if number > 1)
        if client.health() is not HealthStatus.SERVING or client.pipelines.get(NAME).name != NAME:
            lost.append(fault)

    calls = [Planned(path, messages[path], f"faults-{number}") for number, path in enumerate(METHODS)]
    changes = [one for one in calls if not METHODS[one.path].read_only]
    for fault, behaviour in answered:
        meet(fault, EVERYTHING, behaviour, everything, calls)
        meet(fault, CHANGES, behaviour, changes_only, changes)
    folder = Path(stage.enter(tempfile.TemporaryDirectory()))
    for fault, url in ((REFUSE, closed_port()), (BAD_TLS, stage.enter(untrusted(folder)))):
        ends += _meet(fault, EVERYTHING, stage.adapter(url, *OPTIONS).target, calls)
    for fault, behaviour in answered:
        later = list(_from_within(messages, counting.result(), fault))
        meet(fault, LATER, behaviour, from_the_nth_on({one.request_id: one.begin for one in later}), later)
        messages = _undone(client, messages)
    documented = documented_reasons()
    odd = (
        f"{one.fault}, {one.what}: {one.path}: {one.reason}"
        for one in ends
        if one.reason not in documented[one.path] | {OK, _OPEN}
    )
    yield shown("calls", len(ends))
    yield shown("of these under a fault that began in the middle", sum(one.what == LATER for one in ends))
    yield none("RPCs of the contract without a call", len(METHODS.keys() - messages.keys()))
    yield none("ends that the contract's comments do not name", dict(Counter(odd)))
    latest, bound = max(0, *(one.late for one in ends)), LATE_SECONDS * stage.slack
    yield at_most("longest time that a call ended after its deadline", latest, bound, "s")
    yield none("changes requested of KFP twice without a refusal in between", dict(repeated))
    yield none("calls that ended before their fault began", unmet)
    yield none("faults after which the adapter did not serve", lost)
    yield _compared(ends, stage)


def _begun(stage: Stage, name: str) -> tuple[FaultyKfp, str, Messages]:
    """Starts an adapter with a KFP that has one of each resource, and lets it cache what it reads of a KFP once."""
    data = stage.folder / name
    kfp = stage.enter(FaultyKfp(stage.embedded(data).url))
    target = stage.adapter(kfp.url, *OPTIONS, "--artifact-folder", str(data / "runs")).target
    messages = one_of_each(target)
    with grpc.insecure_channel(target) as channel:
        for path, sent in messages.items():
            if METHODS[path].read_only and not METHODS[path].endless:
                call(channel, path, sent, PATIENT_SECONDS)
    kfp.misbehave(None)
    return kfp, target, messages


def _kinds(messages: Messages) -> Iterator[tuple[str, Planned]]:
    """Every RPC, and those again whose requests to KFP depend on their arguments."""
    for path, sent in messages.items():
        yield METHODS[path].name + path.split(".")[2].partition("Service")[0], Planned(path, sent)
    yield "UploadNext", Planned("/kfadapter.v1.PipelineService/Upload", upload(HELLO.read_bytes(), NAME, _MARK))
    by_name = run_pb2.CreateRunRequest(pipeline_name="container", request_id=_MARK)
    yield "CreateByName", Planned("/kfadapter.v1.RunService/Create", (by_name,))


def _count_requests(stage: Stage) -> dict[str, int]:
    """Makes each call once without faults; returns the number of its requests to KFP by its name."""
    kfp, target, messages = _begun(stage, "counted")
    kinds = dict(_kinds(messages))
    with grpc.insecure_channel(target) as channel:
        # What others need is deleted last, and a pipeline after its version.
        for name in sorted(kinds, key=lambda name: (name.startswith("Delete"), name == "DeletePipeline")):
            path, sent = kinds[name].path, kinds[name].messages
            if not METHODS[path].endless and (ended := call(channel, path, sent, 20, name)).code != OK:
                raise RuntimeError(f"{name} failed without a fault: {ended}")
    came = kfp.came()
    return {name: came[name] for name in kinds}


def _from_within(messages: Messages, counts: Mapping[str, int], fault: str) -> Iterator[Planned]:
    """Yields each call once for each of its requests to KFP after the first, which is then the first to fail.

    Each has its own name and request id, so that it does not conflict with concurrent calls.
    """
    for name, one in _kinds(messages):
        for begin in range(2, counts[name] + 1):
            request_id = f"{name}-{begin}-{fault}".replace(" ", "-")
            first, *rest = one.messages
            first = type(first).FromString(first.SerializeToString())
            if isinstance(first, pipeline_pb2.UploadPipelineRequest):
                first.metadata.request_id = request_id
                first.metadata.name += f"-{_MARK}-{begin}" if first.metadata.name != NAME else ""
            elif isinstance(first, run_pb2.CreateRunRequest):
                first.request_id = request_id
            yield replace(one, messages=(first, *rest), request_id=request_id, begin=begin)


def _undone(client: Client, messages: Messages) -> Messages:
    """Reverts what calls changed before their fault began; returns the messages of these calls for the next fault."""

    def id_in(rpc: str, key: str) -> str:
        return str(getattr(messages[f"/kfadapter.v1.{rpc}"][0], key))

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
    """The reasons in the contract's comments by the RPC's path, including those of the service's comment."""
    found: dict[str, frozenset[str]] = {}
    of_all: dict[str, frozenset[str]] = {}
    line = re.compile(r"// - [A-Z_]+ / (?P<reason>[A-Z_]+)|^(service|  rpc) (?P<name>\w+)", re.MULTILINE)
    for file in (PAGE.parents[1] / "protos" / "kfadapter" / "v1").glob("*.proto"):
        service, noted = "", set[str]()
        for one in line.finditer(file.read_text(encoding="utf-8")):
            if one["reason"]:
                noted.add(one["reason"])
            elif one[0].startswith("service"):
                service, of_all[one["name"]], noted = one["name"], frozenset(noted), set()
            else:
                found[f"/kfadapter.v1.{service}/{one['name']}"], noted = frozenset(noted), set()
    # The services without their own list refer to that of RunService.
    return {
        path: own | (of_all[path.split(".")[2].split("/")[0]] or of_all["RunService"]) for path, own in found.items()
    }


def _table(ends: Ends) -> str:
    """The ends as Markdown: RPCs that end alike share a row."""
    lines = ["| Fault | What meets with it | End of the call | RPCs |", "|---|---|---|---|"]
    for fault, what in itertools.product(FAULTS, (EVERYTHING, CHANGES, LATER)):
        rpcs: dict[str, list[str]] = {}
        for path in METHODS:
            if found := ends.get((fault, what, path)):
                end = " or ".join(f"`{one}`" for one in sorted(found))
                rpcs.setdefault(end, []).append(path.removeprefix("/kfadapter.v1."))
        for number, (end, names) in enumerate(sorted(rpcs.items(), key=lambda item: -len(item[1]))):
            others = "all others" if len(rpcs) > 1 else "all"
            lines.append(f"| {fault} | {what} | {end} | {', '.join(names) if number else others} |")
    return "\n".join(lines) + "\n"


def _read_table(text: str) -> Ends:
    """The ends in a table."""
    ends: dict[tuple[str, str, str], frozenset[str]] = {}
    of_others: dict[tuple[str, str], frozenset[str]] = {}
    for line in text.splitlines()[2:]:
        fault, what, end, names = (cell.strip() for cell in line.strip("|").split("|"))
        reasons = frozenset(end.replace("`", "").split(" or "))
        if names.startswith("all"):
            of_others[fault, what] = reasons
        else:
            ends |= {(fault, what, f"/kfadapter.v1.{name}"): reasons for name in names.split(", ")}
    return {(*case, path): reasons for case, reasons in of_others.items() for path in METHODS} | ends


def _compared(found: Sequence[End], stage: Stage) -> Finding:
    """Compares the table of the page with the ends found, or adds to it.

    Ends of faults that begin later are not compared: some calls send several requests concurrently, and which of them
    is the first to fail differs.
    """
    what, text = "ends that the table in docs/robustness.md does not show", PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition("<!-- faults: made by `scripts/robustness --renew faults` -->\n\n")
    now, end, after = rest.partition("\n<!-- end of faults -->")
    known, ends = _read_table(now), dict[tuple[str, str, str], frozenset[str]]()
    for one in found:
        case = (one.fault, one.what, one.path)
        ends[case] = ends.get(case, frozenset()) | {one.reason}
    if stage.renew:
        table = _table({case: reasons | known.get(case, frozenset()) for case, reasons in ends.items()})
        PAGE.write_text(before + begin + table + end + after, encoding="utf-8")
        return Finding(what, "renewed")
    compared = {case: reasons for case, reasons in ends.items() if case[1] != LATER}
    return none(what, [f"{case}: {reasons}" for case, reasons in compared.items() if reasons != known.get(case)])
