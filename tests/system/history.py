"""Calls of adapters that are recorded, and checked against a model of the contract by the program in `checker/`."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from tests.system.load import OK, OWN_CONNECTION, begin, call, outcome
from tests.system.records import HELLO, request, upload

from kfadapter.v1.pipeline_pb2 import IfExists
from kfadapter.v1.run_pb2 import RunEvent, RunState
from kfadapter_grpc.contract.runs import run_id_for
from kfadapter_grpc.methods import MESSAGES

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from google.protobuf.message import Message
    from tests.system.load import Outcome
    from typing_extensions import Self

CALL_SECONDS, WATCH_SECONDS = 8.0, 15.0
FOREVER = 2**62
"""The end of a call of unknown outcome: it may take effect at any later time."""
MISSING, UNKNOWN = "missing", "unknown"
_ROOT = Path(__file__).resolve().parents[2]
_TOLD = {"PIPELINE_NOT_FOUND": MISSING, "RUN_NOT_FOUND": MISSING} | {
    reason: reason for reason in ("PIPELINE_EXISTS", "PIPELINE_HAS_VERSIONS", "RUN_NOT_RETRYABLE")
}
"""Reasons that say what is the case; after any other one the outcome is unknown."""
EXPECTED = frozenset(
    {OK, "KFP_ERROR", "KFP_UNAVAILABLE", "KFP_TIMEOUT", "NAME_CONTESTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", *_TOLD}
)
"""The ends of calls that a faulty KFP and killed adapters explain."""
_NOT_SENT = "failed to connect"


class History:
    """Makes calls, one attempt each, and records when each began and ended, and what it returned.

    Attributes:
        calls: The calls as the checker reads them.
        ends: How often the calls of each RPC ended in which way.
        kfp_errors: What KFP_ERROR reported, and how often.
    """

    def __init__(self, *targets: str) -> None:
        """Calls the adapters at these addresses."""
        options = (*OWN_CONNECTION, ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200))
        self._channels = [grpc.insecure_channel(target, (*options, ("grpc.enable_retries", 0))) for target in targets]
        self._lock = threading.Lock()
        self.calls: list[dict[str, object]] = []
        self.ends: Counter[tuple[str, str]] = Counter()
        self.kfp_errors: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for channel in self._channels:
            channel.close()

    def _ask(self, adapter: int, rpc: str, *sent: Message, **fields: object) -> tuple[Outcome, Any]:
        """Calls an adapter; returns how the call ended and its response, which is empty after an error."""
        path = f"/kfadapter.v1.{rpc}"
        channel = self._channels[adapter % len(self._channels)]
        ended = call(channel, path, sent or (request(path, **fields),), CALL_SECONDS)
        self._count(rpc, ended)
        return ended, MESSAGES[path][1].FromString(ended.answer)

    def _count(self, rpc: str, ended: Outcome) -> None:
        with self._lock:
            self.ends[rpc, ended.reason or ended.code] += 1
            if ended.reason == "KFP_ERROR":
                self.kfp_errors[f"{rpc}: {ended.message}"] += 1

    def _record(self, key: str, op: str, began: int, ended: Outcome, *, reads: bool = False, **fields: object) -> None:
        """Records a call, unless it certainly had no effect and returned nothing."""
        reported = "ok" if ended.code == OK else _TOLD.get(ended.reason, UNKNOWN)
        if reported == UNKNOWN and (reads or ended.reason == "NAME_CONTESTED" or _NOT_SENT in ended.message):
            return
        end = FOREVER if reported == UNKNOWN else time.monotonic_ns()
        with self._lock:
            self.calls.append({"key": key, "op": op, "begin": began, "end": end, "outcome": reported, **fields})

    # --- pipelines --------------------------------------------------------------------------------------------------

    def upload(self, adapter: int, name: str, request_id: str, content: int, if_exists: str = "NEW_VERSION") -> Outcome:
        """Uploads a file with some content."""
        first, *chunks = upload(HELLO.read_bytes() + b"# %d\n" % content, name, request_id)
        first.metadata.description = f"{request_id} {content}"
        first.metadata.if_exists = IfExists.Value(f"IF_EXISTS_{if_exists}")
        began = time.monotonic_ns()
        ended, answer = self._ask(adapter, "PipelineService/Upload", first, *chunks)
        reported = replace(ended, reason="") if ended.reason == "PIPELINE_NOT_FOUND" else ended  # deleted meanwhile
        self._record(
            f"pipeline/{name}",
            "upload",
            began,
            reported,
            request=request_id,
            content=str(content),
            if_exists=if_exists,
            pipeline=answer.pipeline.pipeline_id,
            version=answer.version.pipeline_version_id,
            created=answer.version_created,
        )
        return ended

    def get(self, adapter: int, name: str) -> Outcome:
        """Gets a pipeline with its latest version."""
        began = time.monotonic_ns()
        ended, answer = self._ask(adapter, "PipelineService/Get", name=name, view="VIEW_FULL")
        shown = {
            "count": answer.version_count,
            "versions": _versions([answer.latest_version] * answer.HasField("latest_version")),
        }
        self._record(f"pipeline/{name}", "get", began, ended, reads=True, pipeline=answer.pipeline_id, **shown)
        return ended

    def versions(self, adapter: int, name: str) -> Outcome:
        """Lists the versions of a pipeline."""
        began = time.monotonic_ns()
        ended, answer = self._ask(adapter, "PipelineService/ListVersions", name=name)
        pipeline = answer.versions[0].pipeline_id if answer.versions else ""
        shown = {"pipeline": pipeline, "versions": _versions(answer.versions)}
        self._record(f"pipeline/{name}", "versions", began, ended, reads=True, **shown)
        return ended

    def list(self, adapter: int, names: Collection[str], part: str) -> Outcome:
        """Lists the pipelines with a part in their name, which are `names`, as far as they exist, page after page."""
        began, token, found = time.monotonic_ns(), "", list[tuple[str, str]]()
        while True:
            fields = {"name_contains": part, "page_size": 5, "page_token": token}
            ended, answer = self._ask(adapter, "PipelineService/List", **fields)
            found += [(one.name, one.pipeline_id) for one in answer.pipelines]
            token = answer.next_page_token
            if ended.code != OK or not token:
                break
        ids = dict(found)
        twice = {name for (name, _), count in Counter(found).items() if count > 1}
        for name in names:
            pipeline = "listed twice" if name in twice else ids.get(name, "")
            self._record(f"pipeline/{name}", "listed", began, ended, reads=True, pipeline=pipeline)
        return ended

    def delete(self, adapter: int, name: str, *, force: bool) -> Outcome:
        """Deletes a pipeline."""
        began = time.monotonic_ns()
        ended, answer = self._ask(adapter, "PipelineService/Delete", name=name, force=force)
        op = "delete all" if force else "delete"
        self._record(f"pipeline/{name}", op, began, ended, pipeline=answer.pipeline_id)
        return ended

    # --- runs -------------------------------------------------------------------------------------------------------

    def create(self, adapter: int, request_id: str, pipeline: str) -> Outcome:
        """Starts a run."""
        fields = {"pipeline_name": pipeline, "request_id": request_id, "display_name": request_id}
        began = time.monotonic_ns()
        ended, answer = self._ask(adapter, "RunService/Create", **fields)
        other = ended.code == OK and answer.run_id != run_id_for(request_id)
        self._record(f"run/{request_id}", "another run" if other else "create", began, ended)
        return ended

    def run(self, adapter: int, rpc: str, request_id: str) -> Outcome:
        """Makes one of the calls about a run: Get, Terminate, Retry, Delete."""
        view = {"view": "VIEW_FULL"} if rpc == "Get" else {}
        began = time.monotonic_ns()
        ended, answer = self._ask(adapter, f"RunService/{rpc}", run_id=run_id_for(request_id), **view)
        state = {"state": _state(answer.state)} if rpc == "Get" else {}
        self._record(f"run/{request_id}", rpc.lower(), began, ended, reads=rpc == "Get", **state)
        return ended

    def watch(self, adapter: int, request_id: str) -> Outcome:
        """Watches a run until the watch ends; records the last state that it sent."""
        path, run_id, state, gone = "/kfadapter.v1.RunService/Watch", run_id_for(request_id), "", False
        began = time.monotonic_ns()
        sent = request(path, runs={"run_ids": [run_id]})
        begun = begin(self._channels[adapter % len(self._channels)], path, [sent], WATCH_SECONDS)
        try:
            for data in begun:
                event = RunEvent.FromString(data)
                kind = event.WhichOneof("event")
                if kind != "heartbeat":
                    gone, state = kind == "gone", _state(event.changed.run.state)
        except grpc.RpcError:
            pass
        ended = outcome(begun, 0)
        if ended.code != "DEADLINE_EXCEEDED":
            self._count("RunService/Watch", ended)
        shown = replace(ended, code="", reason="RUN_NOT_FOUND") if gone and ended.code == OK else ended
        self._record(f"run/{request_id}", "watch", began, shown, reads=True, state=state)
        return ended

    def list_runs(self, adapter: int, request_ids: Collection[str]) -> Outcome:
        """Lists all runs, and records of each request id how many runs it has."""
        began, token, found = time.monotonic_ns(), "", Counter[str]()
        while True:
            ended, answer = self._ask(adapter, "RunService/List", page_size=1000, page_token=token)
            found.update(run.display_name for run in answer.runs)
            token = answer.next_page_token
            if ended.code != OK or not token:
                break
        for one in request_ids:
            shown = ended if found[one] or ended.code != OK else replace(ended, code="", reason="RUN_NOT_FOUND")
            self._record(f"run/{one}", "listed", began, shown, reads=True, count=found[one])
        return ended


def _versions(shown: Sequence[Any]) -> list[dict[str, str]]:
    """Versions as the checker knows them: an upload's request id and content are in its description."""
    texts = [one.description.partition(" ") for one in shown]
    return [
        {"request": request_id, "content": content, "id": one.pipeline_version_id}
        for one, (request_id, _, content) in zip(shown, texts, strict=True)
    ]


def _state(number: RunState.ValueType) -> str:
    return RunState.Name(number).removeprefix("RUN_STATE_").replace("UNSPECIFIED", "")


def check(calls: Sequence[dict[str, object]], keep: Path | None = None) -> list[str]:
    """Checks a history; returns a line for each pipeline name and run whose calls no order explains.

    Their calls are written to the file `keep`, in the form in which the checker reads them.
    """
    tool = subprocess.run([_ROOT / "scripts" / "history-checker"], check=True, capture_output=True, text=True)
    lines = "".join(f"{json.dumps(one)}\n" for one in calls)
    checked = subprocess.run([tool.stdout.strip()], input=lines, capture_output=True, text=True, check=False)
    if checked.returncode not in {0, 1}:
        raise RuntimeError(checked.stderr)
    found = checked.stdout.splitlines()
    if keep is not None and found:
        keys = {one.partition(": ")[0] for one in found}
        keep.write_text("".join(f"{json.dumps(one)}\n" for one in calls if one["key"] in keys), encoding="utf-8")
    return found
