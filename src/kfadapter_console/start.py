"""Starts a run: a form typed by the parameters that a pipeline declares."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.datastructures import FormData

from kfadapter_console import page
from kfadapter_console.pipelines import TYPES
from kfadapter_grpc.client import Client
from kfadapter_grpc.contract.errors import InvalidFieldError, VersionNotFoundError
from kfadapter_grpc.contract.experiments import DEFAULT_EXPERIMENT
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.parameters import check_parameters, typed_values, whole_numbers
from kfadapter_grpc.contract.pipelines import PipelineVersion
from kfadapter_grpc.contract.recurring_runs import CronSchedule, IntervalSchedule, Schedule
from kfadapter_grpc.contract.runs import Run
from kfadapter_grpc.contract.spec import Json, Parameter, ParameterType
from kfadapter_grpc.times import read_duration

_MAX_OPTIONS = 100
"""How many versions and experiments a user can choose from."""
_LINE = 80
"""Up to how many characters a text is edited in one line."""
_SET, _EMPTY = "parameters.", "empty."
"""Precede the names of parameters in the form: of their values, as in the violations of the adapter, and of those that
are an empty text on purpose."""


def show(client: Client, query: Mapping[str, str], form: page.Form | None = None) -> page.Result:
    """Shows the form; if it was not sent, for the pipeline `pipeline_id`, or as the run `like` was started."""
    if not form and not {"pipeline_id", "like"} & query.keys():
        return "/pipelines"
    version, old = _requested(client, form.values if form else query)
    form = form or page.Form(_initial(version, old))
    declared = _settable(version)
    versions = client.pipelines.list_versions(pipeline_id=version.pipeline_id, page_size=_MAX_OPTIONS).page().items
    experiments = {one.experiment_id: one.name for one in client.experiments.list(page_size=_MAX_OPTIONS).page().items}
    default = next((key for key, name in experiments.items() if name == DEFAULT_EXPERIMENT), "")
    experiment = form.values.get("experiment_id") or default
    chosen = {"version_id": version.pipeline_version_id, "experiment_id": experiment}
    return {
        "pipeline": client.pipelines.get(pipeline_id=version.pipeline_id, view=View.BASIC),
        "version": version,
        "versions": {one.pipeline_version_id: one.name for one in (*versions, version)},
        "experiments": {experiment: experiment, default: DEFAULT_EXPERIMENT, **experiments},
        "old": old,
        "undeclared": sorted((old.parameters.keys() if old else set()) - {one.name for one in declared}),
        "fields": [(one, _field(one, form.values.get(_SET + one.name, ""))) for one in declared],
        "form": page.Form({**form.values, **chosen}, form.problems),
    }


def _requested(client: Client, values: Mapping[str, str]) -> tuple[PipelineVersion, Run | None]:
    """Returns the version to run, and the run that is run again."""
    run_id, version_id = values.get("like", ""), values.get("version_id", "")
    old = client.runs.get(run_id, view=View.BASIC) if run_id else None
    pipeline_id = values.get("pipeline_id") or (old.pipeline_id if old else "")
    if not pipeline_id:
        raise InvalidFieldError.of("like", f"run {run_id} was started from a file; upload it, and run that pipeline")
    old_version_id = old.pipeline_version_id if old else ""
    try:
        return client.pipelines.get_version(
            pipeline_id=pipeline_id, pipeline_version_id=version_id or old_version_id
        ), old
    except VersionNotFoundError:
        if version_id or not old:
            raise
        return client.pipelines.get_version(pipeline_id=pipeline_id), old  # the run's own was deleted


def _initial(version: PipelineVersion, old: Run | None) -> dict[str, str]:
    """Returns the values of the form before anything is typed."""
    values = {"caching": "on"}
    if old:
        values["experiment_id"], values["description"] = old.experiment_id, old.description
        values["caching"] = "" if old.caching_disabled else "on"
        values["labels"] = "\n".join(map("=".join, old.labels.items()))
    for parameter in _settable(version):
        if old and parameter.name in old.parameters:
            values[_SET + parameter.name] = _text(old.parameters[parameter.name])
            values[_EMPTY + parameter.name] = "on" if old.parameters[parameter.name] == "" else ""
        elif parameter.has_default and not _choices(parameter):
            values[_SET + parameter.name] = _text(parameter.default)
    return values


def _settable(version: PipelineVersion) -> Sequence[Parameter]:
    """Returns the parameters that a user can set."""
    declared = version.spec.parameters if version.spec else ()
    return [parameter for parameter in declared if parameter.type is not ParameterType.TASK_FINAL_STATUS]


def _text(value: Json) -> str:
    """Formats a value as it is typed into the form; null is an empty text."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(whole_numbers(value), ensure_ascii=False)


def _choices(parameter: Parameter) -> list[str]:
    values = parameter.literals or ((True, False) if parameter.type is ParameterType.BOOLEAN else ())
    return [_text(value) for value in values]


def _field(parameter: Parameter, text: str) -> dict[str, object]:
    """Returns what the template shows of a parameter that has this text."""
    choices, is_required = _choices(parameter), not (parameter.has_default or parameter.optional)
    default = (_text(parameter.default) or json.dumps(parameter.default)) if parameter.has_default else None
    unset = f"default: {default}" if default is not None else "choose" if is_required else "leave out"
    is_json = parameter.type in {ParameterType.LIST, ParameterType.STRUCT}
    lines = re.split("[\r\n]", text)  # an input of one line would lose either
    is_long = len(text) > _LINE or len(lines) > 1
    return {
        "type": (TYPES.get(parameter.type) or parameter.declared_type or "text") + (", as JSON" if is_json else ""),
        "default": default,
        "options": {"": unset} | {choice: choice for choice in choices if choice} if choices else None,
        "rows": min(len(text) // _LINE + len(lines), 12) if is_long else int(is_json),
        "is_required": is_required,
        "can_be_empty": parameter.type is ParameterType.STRING and (not choices or "" in choices),
    }


def start(client: Client, form: FormData) -> page.Result:
    """Starts the run, or shows the form for another version with what was typed."""
    values = page.texts_of(form)
    version, old = _requested(client, values)
    if "choose" in form or values.get("shown", version.pipeline_version_id) != version.pipeline_version_id:
        before = _initial(*_requested(client, values | {"version_id": values.get("shown", "")}))
        typed = {name: text for name, text in values.items() if text != before.get(name)}
        kept = {name: values.get(name, "") for name in ("caching", "pipeline_id", "version_id", "like")}
        return show(client, {}, page.Form(_initial(version, old) | typed | kept))
    experiment = values.get("experiment", "")
    spec: dict[str, Any] = {
        "pipeline_id": version.pipeline_id,
        "pipeline_version_id": version.pipeline_version_id,
        "experiment_id": "" if experiment else values.get("experiment_id", ""),
        "experiment_name": experiment,
        "parameters": _parameters(_settable(version), old.parameters if old else {}, values),
        "display_name": values.get("display_name", ""),
        "description": values.get("description", ""),
    }
    if "repeat" in form:
        client.recurring_runs.create(schedule=_schedule(values), **spec)
        return "/recurring"
    run = client.runs.create(
        create_experiment=bool(experiment),
        labels=page.pairs(values.get("labels", ""), "labels"),
        request_id=page.request_id(form),
        caching="caching" in values,
        **spec,
    )
    return page.link("runs", run.run_id)


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
    """Returns the values that were filled in, checked, without defaults that were not changed."""
    kept: dict[str, Json] = {}
    texts: dict[str, str] = {}
    for parameter in declared:
        text = values.get(_SET + parameter.name, "")
        if parameter.type not in {ParameterType.STRING, ParameterType.UNKNOWN}:
            text = text.strip()
        if not text:
            kept |= {parameter.name: ""} if values.get(_EMPTY + parameter.name) else {}
        elif parameter.name in old and text == _unchanged(old[parameter.name]):
            kept[parameter.name] = old[parameter.name]  # exactly, also what a form cannot hold
        elif not (parameter.has_default and text == _unchanged(parameter.default)):
            texts[parameter.name] = text
    return check_parameters(declared, kept | typed_values(texts, declared))


def _unchanged(value: Json) -> str:
    """Returns what `texts_of` returns of a field with this value that was not changed: browsers change line breaks."""
    return _text(value).replace("\r\n", "\n").replace("\r", "\n")


ROUTES = [page.view("/start", show, "start.html"), page.action("/start", start, show, "start.html")]
