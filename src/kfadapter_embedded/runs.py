"""Runs: `/apis/v2beta1/runs`. Each step is stored first, then passed to the executor."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from .document_kinds import EXPERIMENTS, RECURRING_RUNS, RUNS
from .errors import (
    bad_request,
    context,
    exhausted,
    failed_precondition,
    internal,
    invalid_input,
    invalid_parameter,
    json_response,
)
from .execution import OVER, WHOLE, Job, State, TaskReport
from .experiments import ARCHIVED, AVAILABLE
from .json_text import joined, rfc3339, to_json, without_empty
from .listing import parse_listing
from .progress import Progress
from .requests import object_field, text_field, time_field, with_body
from .run_folders import RunFolders
from .run_macros import parameters_without_macros
from .run_requests import (
    check_lengths,
    check_parameters,
    find_experiment,
    find_pipeline,
    listed_experiment,
    new_id,
    not_stored,
    parameters_of,
    pipeline_name,
    shared_fields,
)
from .run_tasks import counts_of, task_details, tasks_of
from .runner_pool import RunnerPool
from .store import Documents, DuplicateError, Page, Store

_log = logging.getLogger(__name__)
_RUNS = "/apis/v2beta1/runs"
_RUN = f"{_RUNS}/{{run_id}}"
_CUT_OFF = (
    "the embedded KFP was stopped in the middle of this run; a retry continues with the tasks that had not succeeded"
)
_GIB = 1 << 30
# The rules of Kubernetes' `SimpleNameGenerator` for unique names.
_UNIQUE_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_UNIQUE_LENGTH = 5
_MAX_BEGINNING = 58
_MAX_FULL_PAGE = 100
_VIEWS = frozenset({"", "DEFAULT", "FULL"})


class Runs:
    """The runs of a store, executed by an executor. Every method blocks and may be called from any thread."""

    def __init__(
        self, store: Store, folders: RunFolders, progress: Progress, executor: RunnerPool, *, most_file_bytes: int
    ) -> None:
        """New runs are rejected once the files of all runs take `most_file_bytes`."""
        self._store = store
        self.folders = folders
        self._progress = progress
        self._executor = executor
        self._most_file_bytes = most_file_bytes

    def routes(self) -> list[Route]:
        steps = {
            "archive": self.archive,
            "unarchive": self._unarchive,
            "terminate": self._terminate,
            "retry": self.retry,
        }
        return [
            Route(_RUNS, self._list, methods=["GET"]),
            Route(_RUNS, with_body(self._create), methods=["POST"]),
            *(Route(f"{_RUN}:{name}", _endpoint(step), methods=["POST"]) for name, step in steps.items()),
            Route(_RUN, self._get, methods=["GET"]),
            Route(_RUN, _endpoint(self.delete), methods=["DELETE"]),
        ]

    def resume(self) -> None:
        """Resumes after a restart: interrupted runs are marked as failed, pending ones are submitted again."""
        self._progress.cut_off(_CUT_OFF)
        with self._store.reading() as documents:
            known = {run_id for (run_id,) in documents.execute("SELECT id FROM run_details")}
            query = "SELECT document FROM run_details WHERE State = ? ORDER BY submission"
            waiting = [json.loads(text) for (text,) in documents.execute(query, (State.PENDING.value,))]
        self.folders.remove_others(known)
        for run in waiting:
            self._submit(run)

    def _list(self, request: Request) -> Response:
        full = _is_full(request)
        listing = parse_listing(RUNS, request.query_params, *((_MAX_FULL_PAGE,) if full else ()))
        wanted = listed_experiment(self._store, request.query_params.get("experiment_id", ""), "runs")
        with self._store.reading() as documents:
            page = documents.page(listing, **wanted)
            tasks = _tasks(documents, page.ids, full=full)
        return StreamingResponse(page.json("runs", self._texts(page, tasks)), media_type="application/json")

    def _texts(self, page: Page, tasks: dict[str, dict[str, str]]) -> Iterator[str]:
        """The runs of a page, one at a time, so that many large specs are not in memory at once."""
        for run_id, text in zip(page.ids, page.texts, strict=True):
            if _has_version(text):
                yield joined(text, **tasks[run_id])
                continue
            with self._store.reading() as documents:
                spec = documents.spec(RUNS, run_id)
            if spec is not None:  # otherwise it was deleted after the page was read
                yield joined(text, **tasks[run_id], pipeline_spec=spec)

    def _get(self, request: Request) -> Response:
        run_id, full = request.path_params["run_id"], _is_full(request)
        with self._store.reading() as documents:
            text = _found(documents, run_id, "Failed to get a run")
            tasks = _tasks(documents, [run_id], full=full, outputs=True)[run_id]
            spec = "" if _has_version(text) and not full else documents.spec(RUNS, run_id) or ""
        if full:
            # As in KFP, which returns the whole spec instead of the reference to its version.
            text = to_json({key: one for key, one in json.loads(text).items() if key != "pipeline_version_reference"})
        return json_response(joined(text, **tasks, pipeline_spec=spec))

    def _create(self, request: Request, body: dict[str, object]) -> Response:
        experiment_id = text_field(body, "experiment_id") or request.query_params.get("experiment_id", "")
        return json_response(self.create({**body, "experiment_id": experiment_id}))

    def create(self, body: dict[str, object], *, pinned_spec: str = "") -> str:
        """Creates a run as requested, or raises KfpError; returns it as JSON text.

        For a recurring run that was created with a spec or a version, `pinned_spec` is what it executes.
        """
        shared = shared_fields(body)
        if not shared["display_name"]:
            words = "Failed to convert a API run detail to its internal representation"
            with context("CreateJob(job.ToV2())Failed to create a run due to conversion error"):
                raise internal(f"{words}: Invalid input error: Run name cannot be empty")
        run_id, recurring_run_id = text_field(body, "run_id"), text_field(body, "recurring_run_id")
        with context("Failed to create a new run"):
            experiment_id = find_experiment(self._store, text_field(body, "experiment_id"), "run")
            if recurring_run_id and (made := self._existing_run(recurring_run_id, str(shared["display_name"]))):
                return made
            if pinned_spec:
                reference, spec = object_field(body, "pipeline_version_reference"), pinned_spec
            else:
                reference, spec = find_pipeline(
                    self._store, body, "Failed to create a run due to error fetching manifest"
                )
            with context("Failed to generate the ExecutionSpec", "invalid pipeline job inputs"):
                check_parameters(json.loads(spec), parameters_of(shared))
            check_lengths(run_id, shared)
            now = rfc3339(self._store.now())
            run = without_empty(
                experiment_id=experiment_id,
                run_id=run_id or new_id(recurring_run_id, str(shared["display_name"])),
                storage_state=AVAILABLE,
                pipeline_version_reference=reference,
                **shared,
                created_at=now,
                scheduled_at=time_field(body, "scheduled_at") or now,
                finished_at=rfc3339(0),
                state=State.PENDING.value,
                recurring_run_id=recurring_run_id,
                state_history=[{"update_time": now, "state": State.PENDING.value}],
            )
            # For a pinned spec, KFP's controller names the Workflow like the run.
            name = str(run["display_name"]) if pinned_spec else _workflow_name(pipeline_name(spec), str(run["run_id"]))
            text = self._added(run, spec, name)
        self._submit(run)
        return joined(text, pipeline_spec="" if reference else spec)

    def _existing_run(self, recurring_run_id: str, name: str) -> str:
        """The existing run of this name of a recurring run, so that none is started twice; empty if there is none yet.

        Raises KfpError if the recurring run does not exist.
        """
        with self._store.reading() as documents:
            if documents.text(RECURRING_RUNS, recurring_run_id) is None:
                words = "Failed to create a run due to invalid recurring run id: Invalid input error: RecurringRunId"
                raise internal(f"{words} doesn't exist: {recurring_run_id}")
            query = "SELECT document FROM run_details WHERE JobUUID = ? AND DisplayName = ?"
            return documents.one(query, recurring_run_id, name) or ""

    def _added(self, run: dict[str, object], spec: str, workflow: str) -> str:
        run_id, experiment_id = str(run["run_id"]), str(run["experiment_id"])
        taken = f"Error 1062 (23000): Duplicate entry '{run_id}' for key 'PRIMARY'"
        self._check_disk_space()
        # After a run is deleted, its id cannot be reused until its processes have ended.
        if self.folders.is_ending(run_id):
            raise not_stored(run, taken)
        try:
            with self._store.writing() as documents:
                text = documents.add(
                    RUNS,
                    run,
                    spec=documents.store_spec(spec),
                    workflow=workflow,
                    submission=documents.one("SELECT coalesce(max(submission), 0) + 1 FROM run_details"),
                    file_bytes=0,
                )
                experiment = documents.document(EXPERIMENTS, experiment_id)
                if experiment:
                    documents.put(EXPERIMENTS, {**experiment, "last_run_created_at": run["created_at"]})
                return text
        except DuplicateError:
            raise not_stored(run, taken) from None

    def _terminate(self, run_id: str) -> None:
        outer = "Failed to terminate a run"
        self._run(run_id, outer, f"Failed to terminate run {run_id} due to error fetching the run")
        if not self._progress.cancel(run_id):
            with context(outer, f"Failed to terminate run {run_id}"):
                raise invalid_input(f"Failed to terminate a run {run_id}. Row not found")
        self._executor.terminate(run_id)

    def retry(self, run_id: str) -> None:
        """Retries a failed run from its failed tasks; raises KfpError if it does not exist or has not failed."""
        outer, reason = "Failed to retry a run", f"Failed to retry run {run_id} due to error fetching"
        run = self._run(run_id, outer, f"{reason} the run")
        with context(outer):
            self._check_disk_space()
            if not self._progress.retry(run_id):
                # KFP's message for a run that has not started; for one that has started, KFP's wording differs.
                raise bad_request(
                    f"{reason} workflow manifest", "Invalid input error: Workflow manifest cannot be empty"
                )
        self._submit(run, again=True)

    def archive(self, run_id: str) -> None:
        """Archives a run; raises KfpError if it does not exist."""
        self._set_storage_state(
            run_id, ARCHIVED, "Failed to archive a run", f"Failed to archive run {run_id} as it failed to be retrieved"
        )

    def _unarchive(self, run_id: str) -> None:
        outer = "Failed to unarchive a run"
        self._set_storage_state(run_id, AVAILABLE, outer, f"Failed to unarchive run {run_id} as it does not exist")

    def _set_storage_state(self, run_id: str, state: str, *layers: str) -> None:
        with self._store.writing() as documents:
            run = json.loads(_found(documents, run_id, *layers))
            experiment = documents.document(EXPERIMENTS, run["experiment_id"])
            if state == AVAILABLE and experiment and experiment["storage_state"] == ARCHIVED:
                words = f"experiment {run['experiment_id']} must be un-archived first"
                with context(layers[0]):
                    raise failed_precondition(
                        f"Failed to unarchive run {run_id} as {words}",
                        "Unarchive the experiment first to allow the run to be restored",
                    )
            documents.put(RUNS, {**run, "storage_state": state})

    def delete(self, run_id: str) -> None:
        """Deletes a run and its files, after terminating it if it is executed; raises KfpError if it is missing."""
        run = self._run(run_id, "Failed to delete a run", f"Failed to delete run {run_id} as it does not exist")
        self.folders.mark_deleted(run_id)
        try:
            state = self.drop(run_id)
        except sqlite3.OperationalError:
            if run["state"] not in OVER:
                self.folders.release(run_id)
                raise
            # On a full disk the files of a finished run are removed first: even the deletion needs the space.
            self.folders.remove(run_id)
            state = self.drop(run_id)
        if state in OVER:
            self.folders.remove(run_id)
        else:
            # The executor reports the end of the run, and then its files are removed.
            self._executor.terminate(run_id)

    def drop(self, run_id: str) -> object:
        """Deletes a run and its tasks; returns the state that it had, `None` if it does not exist."""
        with self._store.writing() as documents:
            run = documents.document(RUNS, run_id)
            if run:
                documents.drop(RUNS, run_id)
        return run["state"] if run else None

    def _run(self, run_id: str, *layers: str) -> dict[str, object]:
        with self._store.reading() as documents:
            run: dict[str, object] = json.loads(_found(documents, run_id, *layers))
        return run

    def _submit(self, run: dict[str, object], *, again: bool = False) -> None:
        run_id = str(run["run_id"])
        with self._store.reading() as documents:
            spec = documents.spec(RUNS, run_id)
            workflow = str(documents.one("SELECT workflow FROM run_details WHERE id = ?", run_id))
        if spec is None:
            return  # deleted in the meantime
        try:
            folder = self.folders.make(run_id)
        except OSError as error:
            _log.warning("cannot create the folder of run %s: %s", run_id, error)
            fault = f"no folder can be made for it: {error.strerror}"
            self._progress.end(run_id, TaskReport(WHOLE, State.FAILED, fault))
            return
        names = {
            "pipeline_job_name": str(run["display_name"]),
            "pipeline_job_resource_name": workflow,
            "pipeline_job_uuid": run_id,
            "pipeline_job_create_time_utc": str(run["created_at"]),
            "pipeline_job_schedule_time_utc": str(run["scheduled_at"]),
        }
        root = text_field(object_field(run, "runtime_config"), "pipeline_root")
        parameters = parameters_of(run) if workflow == run["display_name"] else parameters_without_macros(run)
        self._executor.submit(Job(run_id, spec.encode(), parameters, folder, again, names, self.folders.cache, root))
        with self._store.reading() as documents:
            now = documents.document(RUNS, run_id)
        if now is None or now["state"] == State.CANCELING:
            # Termination was requested before the run was submitted.
            self._executor.terminate(run_id)

    def _check_disk_space(self) -> None:
        with self._store.reading() as documents:
            used = documents.one("SELECT coalesce(sum(file_bytes), 0) FROM run_details")
            if used < self._most_file_bytes:
                return
            largest = json.loads(documents.one("SELECT document FROM run_details ORDER BY file_bytes DESC LIMIT 1"))
        raise exhausted(
            f"the files of runs take {used / _GIB:.1f} GiB in {self.folders.root}, and only "
            f"{self._most_file_bytes / _GIB:.1f} GiB are allowed: delete runs that are not needed any more, and "
            f"their files go with them (most are of run {largest['run_id']}, {largest['display_name']})"
        )


def _endpoint(step: Callable[[str], None]) -> Callable[[Request], Response]:
    def handle(request: Request) -> Response:
        step(request.path_params["run_id"])
        return json_response({})

    return handle


def _workflow_name(pipeline: str, run_id: str) -> str:
    """The name of a run's Workflow: the pipeline's name and a suffix derived from the run's id."""
    digest = hashlib.sha256(run_id.encode()).digest()[:_UNIQUE_LENGTH]
    unique = "".join(_UNIQUE_LETTERS[byte % len(_UNIQUE_LETTERS)] for byte in digest)
    return f"{pipeline.rpartition('/')[2]}-"[:_MAX_BEGINNING] + unique


def _found(documents: Documents, run_id: str, *layers: str) -> str:
    return documents.found(RUNS, run_id, *layers, f"Failed to fetch run {run_id}")


def _has_version(text: str) -> bool:
    return "pipeline_version_reference" in json.loads(text)


def _is_full(request: Request) -> bool:
    """Whether full tasks are requested; raises KfpError if the view is unknown."""
    view = request.query_params.get("view", "")
    if view not in _VIEWS:
        raise invalid_parameter("view", view)
    return view == "FULL"


def _tasks(
    documents: Documents, run_ids: Sequence[str], *, full: bool, outputs: bool = False
) -> dict[str, dict[str, str]]:
    """The task fields of runs as JSON texts: as the next KFP returns them if `full`, else as KFP 2 and the next do."""
    found = tasks_of(documents, run_ids) if full else task_details(documents, run_ids, outputs=outputs)
    counts = counts_of(documents, run_ids)
    return {
        run_id: {
            "run_details": to_json({"task_details": tasks}) if tasks and not full else "",
            "task_count": counts.get(run_id, ""),
            "tasks": f"[{','.join(map(str, tasks))}]" if tasks and full else "",
        }
        for run_id, tasks in found.items()
    }
