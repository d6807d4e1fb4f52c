"""Starts a run: a form typed by the parameters that a pipeline declares."""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kfadapter_console import page
from kfadapter_console.pipelines import TYPES
from kfadapter_grpc.client import Client
from kfadapter_grpc.client.errors import http_status
from kfadapter_grpc.contract.errors import AdapterError, InvalidFieldError, VersionNotFoundError
from kfadapter_grpc.contract.experiments import DEFAULT_EXPERIMENT
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.parameters import check_parameters, typed_values, whole_numbers
from kfadapter_grpc.contract.pipelines import PipelineVersion
from kfadapter_grpc.contract.recurring_runs import CronSchedule, IntervalSchedule, Schedule
from kfadapter_grpc.contract.runs import Run
from kfadapter_grpc.contract.spec import Json, Parameter, ParameterType
from kfadapter_grpc.times import read_duration

LISTED = 100
"""How many versions and experiments a user can choose from."""
SHORT = 80
"""Up to how many characters a text is edited in one line."""
PREFIX = "parameters."
"""Precedes the names of parameters in the form, as in the violations of the adapter."""
EMPTY = "empty."
"""Precedes the names of parameters whose text is empty on purpose."""


def show(request: Request) -> Response:
    """Shows the form, with what the run `like` was started with if one is named."""
    if request.app.state.read_only:
        raise HTTPException(HTTPStatus.FORBIDDEN, "This page is read-only.")
    if not {"pipeline_id", "like"} & request.query_params.keys():
        return page.back("/pipelines")
    subject = _subject(page.client(request), request.query_params)
    return _form(request, subject, {"once": str(uuid.uuid4())} | _initial(*subject))


def _initial(version: PipelineVersion, old: Run | None) -> dict[str, str]:
    """Returns what the form holds before anything is typed."""
    values = {"caching": "on"}
    if old:
        values["experiment_id"], values["description"] = old.experiment_id, old.description
        values["caching"] = "" if old.caching_disabled else "on"
        values["labels"] = "\n".join(f"{key}={value}" for key, value in old.labels.items())
    given = old.parameters if old else {}
    for one in _declared(version):
        if one.name in given:
            values[PREFIX + one.name] = _text(given[one.name])
            values[EMPTY + one.name] = "on" if given[one.name] == "" else ""
        elif one.has_default and not _choices(one):
            values[PREFIX + one.name] = _text(one.default)
    return values


def _subject(client: Client, where: Mapping[str, str]) -> tuple[PipelineVersion, Run | None]:
    """Returns the version to run, and the run that is run again."""
    run_id = where.get("like", "")
    old = client.runs.get(run_id, view=View.BASIC) if run_id else None
    pipeline_id = where.get("pipeline_id") or (old.pipeline_id if old else "")
    if not pipeline_id:
        raise InvalidFieldError.of("like", f"run {run_id} was started from a file; upload it, and run that pipeline")
    version_id = where.get("version_id", "")
    try:
        wanted = version_id or (old.pipeline_version_id if old else "")
        return client.pipelines.get_version(pipeline_id=pipeline_id, pipeline_version_id=wanted), old
    except VersionNotFoundError:
        if version_id or not old:
            raise
        return client.pipelines.get_version(pipeline_id=pipeline_id), old  # the run's own was deleted


def _declared(version: PipelineVersion) -> Sequence[Parameter]:
    """Returns the parameters that a user can set."""
    declared = version.spec.parameters if version.spec else ()
    return [one for one in declared if one.type is not ParameterType.TASK_FINAL_STATUS]


def _text(value: Json) -> str:
    """Writes a value as it is typed into the form; null is an empty text."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(whole_numbers(value), ensure_ascii=False)


def _choices(parameter: Parameter) -> list[str]:
    values = parameter.literals or ((True, False) if parameter.type is ParameterType.BOOLEAN else ())
    return [_text(value) for value in values]


def _form(
    request: Request,
    subject: tuple[PipelineVersion, Run | None],
    values: dict[str, str],
    error: AdapterError | None = None,
) -> Response:
    client, (version, old) = page.client(request), subject
    declared = _declared(version)
    versions = client.pipelines.list_versions(pipeline_id=version.pipeline_id, page_size=LISTED).page().items
    experiments = {one.experiment_id: one.name for one in client.experiments.list(page_size=LISTED).page().items}
    if DEFAULT_EXPERIMENT not in experiments.values():
        experiments = {"": DEFAULT_EXPERIMENT, **experiments}
    default = next(key for key, name in experiments.items() if name == DEFAULT_EXPERIMENT)
    experiment = values.get("experiment_id") or default
    chosen = {"version_id": version.pipeline_version_id, "experiment_id": experiment}
    return page.render(
        request,
        "start.html",
        http_status(error) if error else HTTPStatus.OK,
        pipeline=client.pipelines.get(pipeline_id=version.pipeline_id, view=View.BASIC),
        version=version,
        versions={one.pipeline_version_id: one.name for one in versions} | {version.pipeline_version_id: version.name},
        experiments={experiment: experiment, **experiments},
        old=old,
        undeclared=sorted((old.parameters.keys() if old else set()) - {one.name for one in declared}),
        fields=[_field(one, values.get(PREFIX + one.name, "")) for one in declared],
        form=page.Form(values | chosen, page.problems_of(error, values) if error else {}),
    )


def _field(parameter: Parameter, text: str) -> dict[str, object]:
    """Returns what the template shows of a parameter that holds this text."""
    choices, is_required = _choices(parameter), not (parameter.has_default or parameter.optional)
    default = (_text(parameter.default) or json.dumps(parameter.default)) if parameter.has_default else None
    nothing = f"default: {default}" if default is not None else "choose" if is_required else "leave out"
    is_json = parameter.type in {ParameterType.LIST, ParameterType.STRUCT}
    lines = re.split("[\r\n]", text)  # an input of one line would lose either
    is_long = len(text) > SHORT or len(lines) > 1
    return {
        "parameter": parameter,
        "words": (TYPES.get(parameter.type) or parameter.declared_type or "text") + (", as JSON" if is_json else ""),
        "default": default,
        "options": {"": nothing} | {one: one for one in choices if one} if choices else None,
        "rows": min(len(text) // SHORT + len(lines), 12) if is_long else int(is_json),
        "is_required": is_required,
        "can_be_empty": parameter.type is ParameterType.STRING and (not choices or "" in choices),
    }


def start(request: Request, form: FormData) -> Response:
    """Starts the run, or shows the form again: with what is wrong, or for another version with what was typed."""
    client, values = page.client(request), page.texts_of(form)
    version, old = _subject(client, values)
    if "choose" in form or values.get("shown", version.pipeline_version_id) != version.pipeline_version_id:
        before = _initial(*_subject(client, values | {"version_id": values.get("shown", "")}))
        typed = {name: text for name, text in values.items() if text != before.get(name)}
        return _form(request, (version, old), _initial(version, old) | {"caching": values.get("caching", "")} | typed)
    experiment = values.get("experiment", "")
    try:
        what: dict[str, Any] = {
            "pipeline_id": version.pipeline_id,
            "pipeline_version_id": version.pipeline_version_id,
            "experiment_id": "" if experiment else values.get("experiment_id", ""),
            "experiment_name": experiment,
            "parameters": _parameters(_declared(version), old.parameters if old else {}, values),
            "display_name": values.get("display_name", ""),
            "description": values.get("description", ""),
        }
        if "repeat" in form:
            client.recurring_runs.create(schedule=_schedule(values), **what)
            return page.back("/recurring")
        run = client.runs.create(
            create_experiment=bool(experiment),
            labels=page.pairs(values.get("labels", ""), "labels"),
            request_id=page.request_id(form),
            caching="caching" in values,
            **what,
        )
    except AdapterError as error:
        return _form(request, (version, old), values, error)
    return page.back(page.link("runs", run.run_id))


def _schedule(values: Mapping[str, str]) -> Schedule:
    cron, every = (values.get(name, "").strip() for name in ("cron.cron", "interval.interval"))
    if cron and every:
        raise InvalidFieldError.of("interval.interval", "fill in either this or the cron expression")
    if not every:
        return CronSchedule(cron)
    if (length := read_duration(every)) is None:
        raise InvalidFieldError.of("interval.interval", f"'{every}' is no length of time; write 90s, 15m, 1h30m or 7d")
    return IntervalSchedule(length)


def _parameters(
    declared: Sequence[Parameter], old: Mapping[str, Json], values: Mapping[str, str]
) -> Mapping[str, Json]:
    """Returns the values that were filled in, checked; a default that was left as it is, is left out."""
    kept: dict[str, Json] = {}
    texts: dict[str, str] = {}
    for one in declared:
        text = values.get(PREFIX + one.name, "")
        if one.type not in {ParameterType.STRING, ParameterType.UNKNOWN}:
            text = text.strip()
        if not text:
            kept |= {one.name: ""} if values.get(EMPTY + one.name) else {}
        elif one.name in old and text == _sent(old[one.name]):
            kept[one.name] = old[one.name]  # exactly, also what a form cannot hold
        elif not (one.has_default and text == _sent(one.default)):
            texts[one.name] = text
    return check_parameters(declared, kept | typed_values(texts, declared))


def _sent(value: Json) -> str:
    """Returns a value as `texts_of` returns it from an unchanged field: browsers normalize line breaks."""
    return _text(value).replace("\r\n", "\n").replace("\r", "\n")


ROUTES = [Route("/start", show), Route("/start", page.action(start), methods=["POST"])]
