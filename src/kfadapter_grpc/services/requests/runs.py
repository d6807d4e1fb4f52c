"""Reads requests about runs."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, TypeAlias

from kfadapter.v1 import run_pb2 as pb
from kfadapter_grpc.contract.labels import (
    MAX_DESCRIPTION_BYTES,
    ORIGIN_CHARACTERS,
    ORIGIN_LABEL,
    RESERVED_PREFIX,
    with_labels,
)
from kfadapter_grpc.contract.runs import MAX_RUN_NAME_BYTES, CreateRun, RunFilter, RunState
from kfadapter_grpc.services.requests import refs
from kfadapter_grpc.services.requests.checks import Checks
from kfadapter_grpc.services.requests.values import json_object
from kfadapter_grpc.watch import Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping


MAX_WAIT_SECONDS = 3600
"""How long Terminate waits at most."""
MAX_WATCHED_RUNS = 1000
"""How many runs one watch names at most."""
MAX_TASK_PATH_BYTES = 4096
"""Bytes of UTF-8 in the name or path of a task."""
_MAX_SERVICE_ACCOUNT = 253
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,63}")
_RUN_ID = re.compile(r"[.:_-]*[A-Za-z0-9][A-Za-z0-9.:_-]{0,190}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SERVICE_ACCOUNT = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_STATES = {
    pb.RunState.Value(f"RUN_STATE_{state.value}"): state
    for state in RunState
    if state not in {RunState.UNKNOWN, RunState.OMITTED}
}
"""The states of runs."""

NamesRun: TypeAlias = (
    pb.GetRunRequest
    | pb.TerminateRunRequest
    | pb.RetryRunRequest
    | pb.ArchiveRunRequest
    | pb.UnarchiveRunRequest
    | pb.DeleteRunRequest
)
"""A request about one run."""


def run_id(request: NamesRun) -> str:
    """Reads which run is meant. KFP takes other ids than UUIDs, too.

    Raises:
        InvalidFieldError: None is named, or not in a way that can be right.
    """
    checks = Checks()
    _check_run_id(checks, request.run_id)
    checks.raise_any()
    return request.run_id


def terminate(request: pb.TerminateRunRequest) -> tuple[str, float]:
    """Reads which run is to stop, and how many seconds to wait for that.

    Raises:
        InvalidFieldError: A field is wrong.
    """
    checks = Checks()
    _check_run_id(checks, request.run_id)
    seconds = request.wait.seconds + request.wait.nanos / 1e9
    if not 0 <= seconds <= MAX_WAIT_SECONDS:
        checks.add("wait", f"is {seconds:g} s; use 0 s to {MAX_WAIT_SECONDS} s (an hour), or leave it out")
    checks.raise_any()
    return request.run_id, seconds


def create(request: pb.CreateRunRequest, default_namespace: str) -> CreateRun:
    """Reads how a run is to be started; the parameters are checked where the pipeline is known.

    Raises:
        InvalidFieldError: Fields are wrong; all of them are named.
    """
    checks = Checks()
    namespace = request.namespace or default_namespace
    caching = request.caching_enabled if request.HasField("caching_enabled") else None
    wanted = CreateRun(
        pipeline=refs.pipeline_ref(checks, request, namespace),
        version=refs.version_ref(checks, request),
        experiment=refs.try_experiment_ref(checks, request, namespace),
        parameters=json_object(checks, "parameters", request.parameters),
        display_name=request.display_name,
        description=request.description,
        labels=dict(request.labels),
        request_id=request.request_id,
        validate_only=request.validate_only,
        create_experiment=request.create_experiment,
        caching=caching is not False,
        service_account=request.service_account,
        namespace=namespace,
    )
    checks.namespace("namespace", request.namespace)
    _check_texts(checks, wanted)
    if caching:
        checks.add("caching_enabled", "can only be false; leave it out to have what the pipeline's tasks say")
    checks.raise_any()
    return wanted


def run_filter(message: pb.RunFilter, default_namespace: str) -> RunFilter:
    """Reads which runs are wanted; the fields are those of a request's `filter`.

    Raises:
        InvalidFieldError: A filter is wrong.
    """
    checks = Checks()
    namespace = message.namespace or default_namespace
    for name in ("pipeline_id", "pipeline_version_id", "recurring_run_id"):
        if one := getattr(message, name):
            checks.id(f"filter.{name}", one)
    checks.text("filter.display_name_contains", message.display_name_contains, MAX_RUN_NAME_BYTES)
    checks.bytes("filter.labels", with_labels("", message.labels), MAX_DESCRIPTION_BYTES)
    checks.bytes("filter.label_keys", with_labels("", dict.fromkeys(message.label_keys, "")), MAX_DESCRIPTION_BYTES)
    checks.namespace("filter.namespace", message.namespace)
    where = RunFilter(
        experiment=refs.try_experiment_ref(checks, message, namespace, "filter."),
        states=frozenset(_state(checks, number) for number in message.states),
        created_after=checks.time(message, "filter.created_after", "created_after"),
        finished_after=checks.time(message, "filter.finished_after", "finished_after"),
        display_name_contains=message.display_name_contains,
        labels=dict(message.labels),
        label_keys=frozenset(message.label_keys),
        pipeline_id=message.pipeline_id,
        pipeline_version_id=message.pipeline_version_id,
        recurring_run_id=message.recurring_run_id,
        archived=checks.archived("filter.storage_state", message.storage_state),
        namespace=namespace,
    )
    checks.raise_any()
    return where


def log(request: pb.ReadLogsRequest) -> tuple[str, str, int, int | None]:
    """Reads which log is requested: run, task, attempt (0: the last one), and iteration of the innermost loop.

    Raises:
        InvalidFieldError: A field is wrong.
    """
    checks = Checks()
    _check_run_id(checks, request.run_id)
    if not request.task:
        checks.add("task", "is empty; say which task is meant, Get tells their names")
    checks.text("task", request.task, MAX_TASK_PATH_BYTES)
    if request.attempt < 0:
        checks.add("attempt", f"is {request.attempt}; attempts are counted from 1, and 0 stands for the last one")
    iteration = request.iteration_index if request.HasField("iteration_index") else None
    if iteration is not None and iteration < 0:
        checks.add("iteration_index", f"is {iteration}; iterations are counted from 0")
    checks.raise_any()
    return request.run_id, request.task, request.attempt, iteration


def watch(request: pb.WatchRunsRequest, default_namespace: str) -> Wanted:
    """Reads what is to be watched.

    Raises:
        InvalidFieldError: Neither ids nor a filter are named, an id is wrong or there are too many.
    """
    checks = Checks()
    _check_known_etags(checks, request.known_etags)
    known = {_canonical(run_id): etag for run_id, etag in request.known_etags.items()}
    if request.WhichOneof("what") == "filter":
        checks.raise_any()
        where = run_filter(request.filter, default_namespace)
        return Wanted((), where, where.namespace, known, request.tasks)
    checks.namespace("runs.namespace", request.runs.namespace)
    _check_run_ids(checks, request)
    checks.raise_any()
    ids = tuple(dict.fromkeys(map(_canonical, request.runs.run_ids)))
    return Wanted(ids, None, request.runs.namespace or default_namespace, known, request.tasks)


def _check_run_ids(checks: Checks, request: pb.WatchRunsRequest) -> None:
    ids = request.runs.run_ids
    if not ids:
        checks.add("what", "is empty; name runs by id, or a filter, which may be empty")
    if len(ids) > MAX_WATCHED_RUNS:
        checks.add("runs.run_ids", f"names {len(ids)} runs; at most {MAX_WATCHED_RUNS} can be watched at once")
    elif wrong := next((one for one in ids if not _RUN_ID.fullmatch(one)), None):
        checks.add("runs.run_ids", f"'{wrong[:80]}' is not the id of a run, which is mostly a UUID")
    elif "" in ids:
        checks.add("runs.run_ids", "holds an empty id")


def _check_known_etags(checks: Checks, known: Mapping[str, str]) -> None:
    if len(known) > MAX_WATCHED_RUNS:
        checks.add("known_etags", f"has {len(known)} entries; at most {MAX_WATCHED_RUNS}, those of the newest runs")
    elif wrong := next((one for one in known if not _RUN_ID.fullmatch(one)), None):
        checks.add("known_etags", f"'{wrong[:80]}' is not the id of a run")


def _canonical(run_id: str) -> str:
    """KFP writes UUIDs in lower case and finds them in any. Many watches may hold the same ids: one text for all."""
    return sys.intern(run_id.lower() if _UUID.fullmatch(run_id) else run_id)


def _check_run_id(checks: Checks, value: str) -> None:
    if not value:
        checks.add("run_id", "is empty; say which run is meant")
    elif not _RUN_ID.fullmatch(value):
        checks.add("run_id", f"'{value[:80]}' is not the id of a run, which is mostly a UUID; List tells the ids")


def _check_texts(checks: Checks, wanted: CreateRun) -> None:
    checks.text("display_name", wanted.display_name, MAX_RUN_NAME_BYTES)
    checks.bytes("display_name", wanted.display_name, MAX_RUN_NAME_BYTES)
    _check_description(checks, wanted)
    if wanted.request_id and not _REQUEST_ID.fullmatch(wanted.request_id):
        checks.add("request_id", "must be 1 to 63 letters, digits, '-', '_', '.' or ':'; a UUID is best")
    account = wanted.service_account
    if account and not (_SERVICE_ACCOUNT.fullmatch(account) and len(account) <= _MAX_SERVICE_ACCOUNT):
        checks.add("service_account", f"'{account[:80]}' is not the name of a Kubernetes service account")


def _check_description(checks: Checks, wanted: CreateRun) -> None:
    """Checks the description and the labels, which KFP keeps in one column."""
    own = {} if wanted.caching else {ORIGIN_LABEL: "x" * ORIGIN_CHARACTERS}
    size = len(with_labels(wanted.description, {**wanted.labels, **own}).encode())
    if size > MAX_DESCRIPTION_BYTES:
        further = " and what is noted for caching_enabled" if own else ""
        name = "labels" if wanted.labels and not wanted.description else "description"
        text = f"description and labels{further} take {size} bytes of UTF-8 together"
        checks.add(name, f"{text}; at most {MAX_DESCRIPTION_BYTES} fit")
    if "\0" in wanted.description:
        checks.add("description", "holds a NUL character; remove it")
    for key in wanted.labels:
        if not key or key.startswith(RESERVED_PREFIX):
            checks.add("labels", f"the key '{key[:80]}' is empty or begins with '{RESERVED_PREFIX}', which is reserved")


def _state(checks: Checks, number: pb.RunState.ValueType) -> RunState:
    if number not in _STATES:
        checks.add("filter.states", f"{number} is not a state to look for; use RUN_STATE_PENDING, _RUNNING and so on")
    return _STATES.get(number, RunState.UNKNOWN)
