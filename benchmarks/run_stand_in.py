"""Stand-ins for a KFP that keeps tasks itself and for KFP 2.17 with ML Metadata, with one run of 50 tasks in each.

They have the measured response times of real ones. Run as `python -m benchmarks.run_stand_in`: prints
`ready NEXT_URL OLD_URL MLMD_ADDRESS`, ends when its stdin is closed.
"""

from __future__ import annotations

import copy
import socket
import sys
import time
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.mlmd import FakeStore, large_run
from tests.native_specs import Declared, spec_of_tasks
from tests.recorded_runs import recorded_native
from tests.runs_kfp import AT, DEFAULT, PIPELINE, VERSION, RunsKfp
from tests.scripted_kfp import answers
from tests.workflows import Task, Workflow

from benchmarks.stand_in import REQUEST_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.scripted_kfp import Behaviour, Connection, Received

TASKS = 50
"""How many tasks each run has."""
RUN_ID = "large"
"""The id of both runs."""
_GET_SECONDS, _FULL_SECONDS, _TASKS_SECONDS, _MANIFEST_SECONDS = 0.0027, 0.008, 0.005, 0.004
_EXECUTIONS_SECONDS, _STORE_SECONDS = 0.0031, 0.001
_NODE_PADDING = 3_000
"""Makes a manifest of 50 tasks as large as a real one: each task's driver has its component."""
_REFERENCE = {"pipeline_id": PIPELINE, "pipeline_version_id": VERSION}


def _takes(seconds: float, behaviour: Behaviour) -> Behaviour:
    def late(connection: Connection, received: Received) -> bool:
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        time.sleep(seconds)
        return behaviour(connection, received)

    return late


def _kfp(run: Mapping[str, object], *tasks: Declared) -> RunsKfp:
    """A KFP that has the run, its pipeline and its experiment."""
    kfp = RunsKfp(spec=spec_of_tasks(*tasks))
    kfp.server.first("GET", "^/", _takes(REQUEST_SECONDS, kfp.serve))
    kfp.server.first("GET", f"v2beta1/runs/{RUN_ID}$", _takes(_GET_SECONDS, answers(200, run)))
    return kfp


def next_kfp() -> RunsKfp:
    """The KFP after 2.17: a loop, most of whose tasks have a file and a log."""
    recorded = recorded_native("loop")[1]
    shard = next(one for one in recorded["tasks"] if one["name"] == "shard")
    tasks = [one for one in recorded["tasks"] if one["name"] not in {"shard", "square"}]
    while len(tasks) < TASKS:
        one = copy.deepcopy(shard)
        one |= {"task_id": str(uuid.uuid4()), "type_attributes": {"iteration_index": str(len(tasks))}}
        for artifact in (artifact for port in one["outputs"]["artifacts"] for artifact in port["artifacts"]):
            artifact["artifact_id"] = str(uuid.uuid4())
        tasks.append(one)
    run = {**recorded["run"], "run_id": RUN_ID, "experiment_id": DEFAULT, "task_count": TASKS}
    loop = Declared("for-loop-1", (Declared("shard"),), loops=True)
    kfp = _kfp({**run, "pipeline_version_reference": _REFERENCE}, loop, Declared("merge"), Declared("total"))
    full = {**run, "tasks": tasks, "pipeline_spec": kfp.spec}
    full.pop("pipeline_version_reference", None)
    kfp.server.first("GET", r"\?view=FULL$", _takes(_FULL_SECONDS, answers(200, full)))
    kfp.server.first("GET", f"runs/{RUN_ID}/tasks", _takes(_TASKS_SECONDS, answers(200, {"tasks": tasks})))
    return kfp


def old_kfp() -> RunsKfp:
    """KFP 2.17: parallel tasks, each with a metric and a log, in ML Metadata."""
    component: dict[str, object] = {"executorLabel": "exec-train", "y": "z" * _NODE_PADDING}
    workflow = Workflow(tuple(Task(f"train-{number}", component=component) for number in range(TASKS)))
    manifest = workflow.manifest()
    details = [
        {
            "run_id": RUN_ID,
            "task_id": str(uuid.uuid4()),
            "display_name": node["displayName"],
            **dict.fromkeys(("create_time", "start_time", "end_time"), AT),
            "state": "SUCCEEDED",
            "state_history": [{"update_time": AT, "state": "SUCCEEDED"}],
        }
        for node in workflow.nodes.values()
    ]
    run = {
        "run_id": RUN_ID,
        "experiment_id": DEFAULT,
        "display_name": "r",
        "state": "SUCCEEDED",
        **dict.fromkeys(("created_at", "scheduled_at", "finished_at"), AT),
        "pipeline_version_reference": _REFERENCE,
        "run_details": {"task_details": details},
    }
    kfp = _kfp(run, *(Declared(f"train-{number}") for number in range(TASKS)))
    whole = {"run": {"id": RUN_ID}, "pipeline_runtime": {"workflow_manifest": manifest}}
    kfp.server.first("GET", f"v1beta1/runs/{RUN_ID}$", _takes(_MANIFEST_SECONDS, answers(200, whole)))
    return kfp


def main() -> None:
    """Serves until stdin is closed."""
    store = FakeStore(large_run(TASKS, in_loop=False))
    store.before = lambda name, _: time.sleep(
        _EXECUTIONS_SECONDS if name == "GetExecutionsByContext" else _STORE_SECONDS
    )
    with ExitStack() as ends:
        kfps = [next_kfp(), old_kfp()]
        for one in kfps:
            ends.enter_context(one.server)
        ends.callback(store.stop)
        sys.stdout.write(" ".join(("ready", *(one.url for one in kfps), store.start())) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
