"""Recurring runs: `/apis/v2beta1/recurringruns`. They are kept and shown, and never start a run."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

from starlette.routing import Route

from kfadapter_grpc.contract.cron import CronError, read_cron

from .errors import context, invalid_input, json_response
from .json_text import joined, read_time, rfc3339, to_json, without_empty
from .kinds import RECURRING_RUNS
from .listing import parse_listing
from .requests import flag_field, integer_field, object_field, text_field, with_body
from .run_requests import (
    check_parameters,
    find_experiment,
    find_pipeline,
    listed_experiment,
    parameters_of,
    shared_fields,
)
from .run_tasks import error_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from .store import Store

_RECURRING_RUNS = "/apis/v2beta1/recurringruns"
_RECURRING_RUN = f"{_RECURRING_RUNS}/{{recurring_run_id}}"
_NAMESPACE = "kubeflow"
_MOST_AT_ONCE = 10
_NEVER_FIRES = "the embedded KFP keeps recurring runs, but starts none: that takes Kubeflow Pipelines on Kubernetes"


class RecurringRuns:
    """The routes. Functions that take no body run in threads, because the store blocks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> list[Route]:
        """All of them."""
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
        return json_response("".join(page.json("recurringRuns", map(_served, page.texts))))

    def _create(self, _request: Request, body: dict[str, object]) -> Response:
        with context("Failed to create a recurring run due to conversion error"):
            trigger = _trigger(object_field(body, "trigger"))
            max_concurrency = integer_field(body, "max_concurrency")
            if not 1 <= max_concurrency <= _MOST_AT_ONCE:
                words = "The max concurrency of the recurring run is out of range. Support 1-10. Received"
                raise invalid_input(f"{words} {max_concurrency}")
        with context("Failed to create a recurring run"):
            shared = shared_fields(body)
            if not shared["display_name"]:
                raise invalid_input("Recurring run name is empty. Please specify a valid name")
            experiment_id = find_experiment(self._store, text_field(body, "experiment_id"), "recurring run")
            reference, spec = find_pipeline(self._store, body, "recurring run")
            with context("invalid pipeline job inputs"):
                check_parameters(json.loads(spec), parameters_of(shared))
            now = rfc3339(self._store.now())
            recurring_run = without_empty(
                recurring_run_id=str(uuid.uuid4()),
                pipeline_version_reference=reference,
                pipeline_spec=None if reference else json.loads(spec),
                **shared,
                max_concurrency=str(max_concurrency),
                **_mode(enabled=_is_enabled(body)),
                created_at=now,
                updated_at=now,
                no_catchup=flag_field(body, "no_catchup"),
                namespace=_NAMESPACE,
                experiment_id=experiment_id,
            )
        with self._store.writing() as documents:
            return json_response(_served(documents.add(RECURRING_RUNS, {**recurring_run, "trigger": trigger})))

    def _get(self, request: Request) -> Response:
        recurring_run_id = request.path_params["recurring_run_id"]
        with self._store.reading() as documents:
            text = documents.found(RECURRING_RUNS, recurring_run_id, "Failed to fetch a recurring run")
        return json_response(_served(text))

    def _switch(self, *, enabled: bool) -> Callable[[Request], Response]:
        """The endpoint that enables or disables."""
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


def _served(text: str) -> str:
    return joined(text, error=to_json(error_body(_NEVER_FIRES)))


def _mode(*, enabled: bool) -> dict[str, str]:
    return {"mode": "ENABLE", "status": "ENABLED"} if enabled else {"mode": "DISABLE", "status": "DISABLED"}


def _trigger(trigger: dict[str, object]) -> dict[str, object]:
    """KFP's trigger as it shows it: a missing schedule is fine with it."""
    cron, periodic = object_field(trigger, "cron_schedule"), object_field(trigger, "periodic_schedule")
    if cron:
        expression = text_field(cron, "cron")
        try:
            read_cron(expression)
        except CronError as error:
            words = "Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron)"
            raise invalid_input(f"{words}. Error: {error}") from None
        return {"cron_schedule": without_empty(**_bounds(cron), cron=expression)}
    if periodic:
        interval = integer_field(periodic, "interval_second")
        if interval < 1:
            words = f"Found invalid period schedule interval {interval}. Set at interval to least 1 second"
            raise invalid_input(words)
        return {"periodic_schedule": without_empty(**_bounds(periodic), interval_second=str(interval))}
    return {}


def _bounds(schedule: dict[str, object]) -> dict[str, str]:
    return {name: _time(text_field(schedule, name)) for name in ("start_time", "end_time")}


def _time(text: str) -> str:
    """A time as KFP writes it; empty if it is missing."""
    try:
        return rfc3339(read_time(text)) if text else ""
    except (ValueError, OverflowError):
        raise invalid_input(f"invalid google.protobuf.Timestamp value {text!r}") from None


def _is_enabled(body: dict[str, object]) -> bool:
    mode = text_field(body, "mode") or "MODE_UNSPECIFIED"
    if mode not in {"ENABLE", "DISABLE", "MODE_UNSPECIFIED"}:
        raise invalid_input(f"invalid value for enum field mode: {mode}")
    return mode == "ENABLE"
