"""What a request for a recurring run asks for: checked in KFP's order, with KFP's words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .bodies import rfc3339, to_json, without_empty
from .cron import CronError, check_cron
from .errors import context, invalid_input
from .json_requests import flag_field, integer_field, object_field, text_field
from .moments import read_moment
from .parameters import check_parameters
from .records import NewRecurringRun
from .run_requests import DEFAULT_SERVICE_ACCOUNT, find_experiment, find_pipeline, runtime_config

if TYPE_CHECKING:
    from .store import Store

_MOST_AT_ONCE = 10


def read_new_recurring_run(store: Store, body: dict[str, object]) -> NewRecurringRun:
    """Understands a recurring run that is to be made.

    Raises:
        KfpError: there is something wrong with it.
    """
    with context("Failed to create a recurring run due to conversion error"):
        schedule = _schedule(object_field(body, "trigger"))
        max_concurrency = integer_field(body, "max_concurrency")
        if not 1 <= max_concurrency <= _MOST_AT_ONCE:
            words = "The max concurrency of the recurring run is out of range. Support 1-10. Received"
            raise invalid_input(f"{words} {max_concurrency}")
    with context("Failed to create a recurring run"):
        name, config = text_field(body, "display_name"), runtime_config(body)
        if not name:
            raise invalid_input("Recurring run name is empty. Please specify a valid name")
        experiment = find_experiment(store, text_field(body, "experiment_id"), "recurring run")
        pipeline = find_pipeline(store, body, "recurring run")
        with context("invalid pipeline job inputs"):
            check_parameters(json.loads(pipeline.spec), json.loads(config.parameters))
        return NewRecurringRun(
            experiment_id=experiment,
            display_name=name,
            description=text_field(body, "description"),
            origin=pipeline.origin,
            spec="" if pipeline.origin.version_id else pipeline.spec,
            config=config,
            service_account=text_field(body, "service_account") or DEFAULT_SERVICE_ACCOUNT,
            max_concurrency=max_concurrency,
            schedule=to_json(schedule),
            enabled=_is_enabled(body),
            no_catchup=flag_field(body, "no_catchup"),
        )


def _schedule(trigger: dict[str, object]) -> dict[str, object]:
    """KFP's trigger as it shows it: no schedule at all is fine with it."""
    cron, periodic = object_field(trigger, "cron_schedule"), object_field(trigger, "periodic_schedule")
    if cron:
        expression = text_field(cron, "cron")
        try:
            check_cron(expression)
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
    return {name: _moment(text_field(schedule, name)) for name in ("start_time", "end_time")}


def _moment(text: str) -> str:
    """A moment as KFP writes it; empty if there is none."""
    if not text:
        return ""
    try:
        return rfc3339(read_moment(text))
    except (ValueError, OverflowError):
        raise invalid_input(f"invalid google.protobuf.Timestamp value {text!r}") from None


def _is_enabled(body: dict[str, object]) -> bool:
    mode = text_field(body, "mode") or "MODE_UNSPECIFIED"
    if mode not in {"ENABLE", "DISABLE", "MODE_UNSPECIFIED"}:
        raise invalid_input(f"invalid value for enum field mode: {mode}")
    return mode == "ENABLE"
