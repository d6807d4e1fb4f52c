"""Recurring runs: `/apis/v2beta1/recurringruns`. `schedules` starts their runs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kfadapter_grpc.contract.cron import CronError, read_cron

from .document_kinds import PIPELINES, RECURRING_RUNS
from .errors import already_set, context, internal, invalid_input, json_response
from .json_text import rfc3339, without_empty
from .listing import parse_listing
from .requests import Resource, flag_field, integer_field, object_field, text_field, time_field, with_body
from .run_requests import (
    check_parameters,
    find_experiment,
    find_pipeline,
    listed_experiment,
    parameters_of,
    shared_fields,
)
from .schedules import add_recurring_run

_RECURRING_RUNS = "/apis/v2beta1/recurringruns"
_RECURRING_RUN = f"{_RECURRING_RUNS}/{{recurring_run_id}}"
_NAMESPACE = "kubeflow"
_MOST_AT_ONCE = 10
_BAD_INPUTS = "invalid pipeline job inputs"


class RecurringRuns(Resource):
    def routes(self) -> list[Route]:
        return [
            Route(_RECURRING_RUNS, self._list, methods=["GET"]),
            Route(_RECURRING_RUNS, with_body(self._create), methods=["POST"]),
            Route(f"{_RECURRING_RUN}:enable", self._switch(enabled=True), methods=["POST"]),
            Route(f"{_RECURRING_RUN}:disable", self._switch(enabled=False), methods=["POST"]),
            Route(_RECURRING_RUN, self._get, methods=["GET"]),
            Route(_RECURRING_RUN, self._delete, methods=["DELETE"]),
        ]

    def _list(self, request: Request) -> Response:
        listing = parse_listing(RECURRING_RUNS, request.query_params)
        wanted = listed_experiment(self._store, request.query_params.get("experiment_id", ""), "recurring runs")
        with self._store.reading() as documents:
            page = documents.page(listing, **wanted)
        return json_response("".join(page.json("recurringRuns")))

    def _create(self, _request: Request, body: dict[str, object]) -> Response:
        if object_field(body, "trigger").keys() >= {"cron_schedule", "periodic_schedule"}:
            raise already_set("periodic_schedule", "Trigger.trigger")
        with context("Failed to create a recurring run due to conversion error"):
            if not text_field(body, "display_name"):
                words = "Failed to convert a API recurring run to its internal representation: Invalid input error"
                raise internal(f"{words}: Recurring run's name cannot be empty")
            enabled, max_concurrency = _is_enabled(body), integer_field(body, "max_concurrency")
            if not 1 <= max_concurrency <= _MOST_AT_ONCE:
                words = f"Max concurrency of a recurring run must be at least 1 and at most {_MOST_AT_ONCE}"
                raise invalid_input(f"{words}. Received {max_concurrency}")
            trigger = _trigger(object_field(body, "trigger"))
        with context("Failed to create a recurring run"):
            shared = shared_fields(body)
            experiment_id = find_experiment(self._store, text_field(body, "experiment_id"), "recurring run")
            reference, spec = self._pipeline(body, shared)
            is_pinned = reference.keys() != {"pipeline_id"}
            now = self._store.now()
            recurring_run = without_empty(
                recurring_run_id=str(uuid.uuid4()),
                pipeline_version_reference=reference,
                pipeline_spec=None if reference else json.loads(spec),
                **shared if is_pinned else {**shared, "service_account": text_field(body, "service_account")},
                max_concurrency=str(max_concurrency),
                **_mode(enabled=enabled),
                created_at=rfc3339(now),
                updated_at=rfc3339(now),
                no_catchup=flag_field(body, "no_catchup"),
                namespace=_NAMESPACE,
                experiment_id=experiment_id,
            )
        with self._store.writing() as documents:
            return json_response(add_recurring_run(documents, {**recurring_run, "trigger": trigger}, spec * is_pinned))

    def _pipeline(self, body: dict[str, object], shared: dict[str, object]) -> tuple[dict[str, object], str]:
        """The reference to store, and a spec that accepts the parameters: of the latest version if none is set."""
        reference = object_field(body, "pipeline_version_reference")
        pipeline_id, version_id = text_field(reference, "pipeline_id"), text_field(reference, "pipeline_version_id")
        if not (reference or "pipeline_spec" in body):
            raise internal("Cannot create a job with an empty pipeline ID")
        if not pipeline_id or version_id:
            words = "Failed to create a recurring run with an invalid pipeline spec manifest"
            found, spec = find_pipeline(self._store, body, words)
            with context("Failed to create a recurring run during scheduled workflow creation", _BAD_INPUTS):
                check_parameters(json.loads(spec), parameters_of(shared))
            return found, spec
        words = "Failed to validate the input parameters on the latest pipeline version"
        with self._store.reading() as documents:
            layers = words, "Failed to get the latest template as pipeline was not found"
            documents.found(PIPELINES, pipeline_id, *layers)
        _, spec = find_pipeline(self._store, body, words)
        with context(words):
            check_parameters(json.loads(spec), parameters_of(shared))
        return {"pipeline_id": pipeline_id}, spec

    def _get(self, request: Request) -> Response:
        recurring_run_id = request.path_params["recurring_run_id"]
        with self._store.reading() as documents:
            text = documents.found(RECURRING_RUNS, recurring_run_id, "Failed to fetch a recurring run")
        return json_response(text)

    def _switch(self, *, enabled: bool) -> Callable[[Request], Response]:
        """The handler that enables or disables."""
        verb = "enable" if enabled else "disable"
        words = f"Failed to change recurring run's mode to enable:{str(enabled).lower()}"

        def handle(request: Request) -> Response:
            recurring_run_id = request.path_params["recurring_run_id"]
            with self._store.writing() as documents:
                layers = (
                    f"Failed to {verb} a recurring run",
                    f"{words}. Check if recurring run {recurring_run_id} exists",
                )
                recurring_run = json.loads(documents.found(RECURRING_RUNS, recurring_run_id, *layers))
                now = rfc3339(self._store.now())
                documents.put(RECURRING_RUNS, {**recurring_run, **_mode(enabled=enabled), "updated_at": now})
            return json_response({})

        return handle

    def _delete(self, request: Request) -> Response:
        recurring_run_id = request.path_params["recurring_run_id"]
        words = f"Failed to delete recurring run {recurring_run_id}. Check if exists"
        with self._store.writing() as documents:
            documents.drop(RECURRING_RUNS, recurring_run_id, "Failed to delete a recurring run", words)
        return json_response({})


def _mode(*, enabled: bool) -> dict[str, str]:
    return {"mode": "ENABLE", "status": "ENABLED"} if enabled else {"mode": "DISABLE", "status": "DISABLED"}


def _trigger(trigger: dict[str, object]) -> dict[str, object]:
    """The trigger as KFP returns it; without a trigger, one run starts immediately."""
    if "cron_schedule" in trigger:
        cron = object_field(trigger, "cron_schedule")
        expression = text_field(cron, "cron")
        try:
            read_cron(expression)
        except CronError as error:
            words = "Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron)"
            raise invalid_input(f"{words}. Error: {error}") from None
        return {"cron_schedule": without_empty(**_bounds(cron), cron=expression)}
    if "periodic_schedule" in trigger:
        periodic = object_field(trigger, "periodic_schedule")
        interval = integer_field(periodic, "interval_second")
        if interval < 1:
            words = f"Found invalid period schedule interval {interval}. Set at interval to least 1 second"
            raise invalid_input(words)
        return {"periodic_schedule": without_empty(**_bounds(periodic), interval_second=str(interval))}
    return {}


def _bounds(schedule: dict[str, object]) -> dict[str, str]:
    return {name: time_field(schedule, name) for name in ("start_time", "end_time")}


def _is_enabled(body: dict[str, object]) -> bool:
    mode = text_field(body, "mode") or "MODE_UNSPECIFIED"
    if mode not in {"ENABLE", "DISABLE", "MODE_UNSPECIFIED"}:
        raise invalid_input(f"invalid value for enum field mode: {mode}")
    return mode == "ENABLE"
