"""Validates requests for runs and recurring runs in KFP's order, with KFP's messages."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import cast

from .document_kinds import EXPERIMENTS, VERSIONS
from .errors import KfpError, context, internal, invalid_input
from .experiments import default_experiment
from .json_text import JsonValue, without_empty
from .pipeline_file import NoPipelineError, sent_spec
from .requests import object_field, text_field
from .store import Store

_MAX_LENGTHS = {"UUID": 191, "DisplayName": 255, "Description": 255}
_SCHEDULED = uuid.UUID("c2f3a9d4-1e6b-4c8a-9f7d-0b5e3a1c2d4f")
_SERVICE_ACCOUNT = "pipeline-runner"
_NUMBER = ("double or integer", "the parameter value is not of number value type")
_EXPECTED = {
    "NUMBER_DOUBLE": _NUMBER,
    "NUMBER_INTEGER": _NUMBER,
    "STRING": ("string", "the input parameter is not of string value type"),
    "BOOLEAN": ("bool", "the input parameter is not of bool value type"),
    "LIST": ("list", "the input parameter is not of list value type"),
    "STRUCT": ("struct", "the input parameter is not of struct value type"),
}


def shared_fields(body: dict[str, object]) -> dict[str, object]:
    """The fields that runs and recurring runs share, as KFP returns them; raises KfpError if one is invalid."""
    config = object_field(body, "runtime_config")
    parameters = object_field(config, "parameters")
    return {
        "display_name": text_field(body, "display_name"),
        "description": text_field(body, "description"),
        "runtime_config": without_empty(
            parameters=dict(sorted(parameters.items())), pipeline_root=text_field(config, "pipeline_root")
        ),
        "service_account": text_field(body, "service_account") or _SERVICE_ACCOUNT,
    }


def parameters_of(document: Mapping[str, object]) -> dict[str, object]:
    return object_field(object_field(document, "runtime_config"), "parameters")


def find_experiment(store: Store, experiment_id: str, kind: str) -> str:
    """The id of the experiment to create something in, by default the default one; raises KfpError if it is missing."""
    if not experiment_id:
        return default_experiment(store)
    with store.reading() as documents:
        documents.found(
            EXPERIMENTS,
            experiment_id,
            f"Failed to create a {kind} due to invalid experimentId and namespace combination",
            f"Failed to fetch namespace for experiment {experiment_id}",
            f"Failed to fetch namespace from experiment {experiment_id}",
        )
    return experiment_id


def listed_experiment(store: Store, experiment_id: str, plural: str) -> dict[str, list[str]]:
    """The owner to list by: the requested experiment, if any; raises KfpError if it does not exist."""
    if not experiment_id:
        return {}
    words = f"Failed to list {plural} due to error fetching namespace for experiment {experiment_id}"
    with store.reading() as documents:
        documents.found(
            EXPERIMENTS,
            experiment_id,
            f"Failed to list {plural}",
            f"{words}. Try filtering based on namespace",
            f"Failed to fetch namespace from experiment {experiment_id}",
        )
    return {"owner": [experiment_id]}


def find_pipeline(store: Store, body: dict[str, object], words: str) -> tuple[dict[str, object], str]:
    """The pipeline of a request, referenced or inline: the reference to its version, and its spec as KFP returns it.

    Raises KfpError, with the context `words`, if it does not exist or is not a valid pipeline.
    """
    reference, document = object_field(body, "pipeline_version_reference"), object_field(body, "pipeline_spec")
    if reference and document:
        raise invalid_input("pipeline_version_reference and pipeline_spec: oneof pipeline_source is already set")
    pipeline_id, version_id = text_field(reference, "pipeline_id"), text_field(reference, "pipeline_version_id")
    if pipeline_id or version_id:
        return _referred(store, pipeline_id, version_id, words)
    if not document:
        cause = "Invalid input error: Failed to fetch a template with an empty pipeline spec manifest"
        raise internal(f"{words}: {cause}")
    try:
        return {}, sent_spec(cast("dict[str, JsonValue]", document))
    except NoPipelineError as error:
        with context(words):
            raise invalid_input(str(error)) from None


def _referred(store: Store, pipeline_id: str, version_id: str, words: str) -> tuple[dict[str, object], str]:
    """A version, or the latest one of its pipeline."""
    latest = "SELECT id FROM pipeline_versions WHERE owner = ? ORDER BY CreatedAtInSec DESC, rowid DESC LIMIT 1"
    with store.reading() as documents:
        found = version_id or str(documents.one(latest, pipeline_id) or "")
        version, spec = documents.document(VERSIONS, found), documents.spec(VERSIONS, found)
    if version is None or spec is None:
        words = f"{words}: Failed to fetch a template due to error retrieving pipeline version"
        raise internal(f"{words}: {_missing(pipeline_id, version_id)}")
    return {"pipeline_id": version["pipeline_id"], "pipeline_version_id": found}, spec


def _missing(pipeline_id: str, version_id: str) -> str:
    if not version_id:
        words = f"Failed to get the latest pipeline version of pipeline {pipeline_id}"
        return f"{words}: ResourceNotFoundError: PipelineVersion of pipeline {pipeline_id} not found"
    layers = (
        f"Failed to fetch a pipeline version and its manifest from pipeline version {version_id}",
        f"Failed to get a pipeline version with id {version_id}",
        f"ResourceNotFoundError: PipelineVersion {version_id} not found",
    )
    return ": ".join(layers)


def pipeline_name(spec: str) -> str:
    """The name of a pipeline spec or a workflow."""
    document = json.loads(spec)
    bare = document.get("pipeline_spec") or document
    info = bare.get("pipelineInfo") or bare.get("metadata")
    names = [info.get(key) for key in ("name", "generateName")] if isinstance(info, dict) else []
    return next((str(name).rstrip("-") for name in names if name), "pipeline")


def check_parameters(spec: Mapping[str, object], values: Mapping[str, object]) -> None:
    """Checks the parameter values of a run against its spec; workflows of KFP v1 declare no parameters.

    Raises KfpError for the first by name that is missing, unknown, or of the wrong type.
    """
    if spec.get("kind") == "Workflow":
        return
    declared = _declared(spec)
    for name, declaration in sorted(declared.items()):
        if name in values:
            _check_type(name, declaration.get("parameterType"), values[name])
            _check_literals(name, declaration.get("literals"), values[name])
        elif not declaration.get("isOptional") and "defaultValue" not in declaration:
            raise invalid_input(
                f"parameter {name} is not optional, yet has neither default value nor user provided value"
            )
    if unknown := sorted(values.keys() - declared.keys()):
        raise invalid_input(f"parameter(s) provided are not required by pipeline: {', '.join(unknown)}")


def _declared(spec: Mapping[str, object]) -> dict[str, dict[str, object]]:
    found: object = spec.get("pipeline_spec", spec)
    for key in ("root", "inputDefinitions", "parameters"):
        found = found.get(key) if isinstance(found, dict) else None
    return {name: each for name, each in found.items() if isinstance(each, dict)} if isinstance(found, dict) else {}


def _check_type(name: str, kind: object, value: object) -> None:
    if kind == "TASK_FINAL_STATUS":
        raise invalid_input(
            f"input parameter {name} requires type TASK_FINAL_STATUS, which is invalid for root component"
        )
    if kind not in _EXPECTED:
        raise invalid_input(f"input parameter {name} requires type unknown")
    if not _matches(str(kind), value):
        expected, complaint = _EXPECTED[str(kind)]
        raise invalid_input(f"input parameter {name} requires type {expected}, but {complaint}")


def _check_literals(name: str, literals: object, value: object) -> None:
    if isinstance(literals, list) and literals and value not in literals:
        given, allowed = (json.dumps(one, ensure_ascii=False) for one in (value, literals))
        raise invalid_input(
            f'input parameter "{name}" value {given} does not match any of the allowed literal values: {allowed}'
        )


def _matches(kind: str, value: object) -> bool:
    if kind in {"NUMBER_DOUBLE", "NUMBER_INTEGER"}:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, {"STRING": str, "BOOLEAN": bool, "LIST": list, "STRUCT": dict}[kind])


def check_lengths(run_id: str, run: dict[str, object]) -> None:
    """Raises KfpError if a text is longer than the column in which KFP stores it."""
    texts = {"UUID": run_id, "DisplayName": str(run["display_name"]), "Description": str(run["description"])}
    for column, text in texts.items():
        if len(text) > _MAX_LENGTHS[column]:
            raise not_stored(run, f"Error 1406 (22001): Data too long for column '{column}' at row 1")


def not_stored(run: dict[str, object], cause: str) -> KfpError:
    """The error of KFP's database for a run that it rejects."""
    error = internal(f"Failed to store run {run['display_name']} to table: {cause}")
    return KfpError(error.status, error.reason, f"Failed to create a run: {error.text}")


def new_id(recurring_run_id: str, name: str) -> str:
    """The id of a new run; for a recurring run's, derived from its name (`NewDeterministicUUID`)."""
    return str(uuid.uuid5(_SCHEDULED, f"{recurring_run_id}/{name}") if recurring_run_id else uuid.uuid4())
