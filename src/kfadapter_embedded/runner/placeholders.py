"""KFP's placeholders in constants: its driver replaces names of the run and the task, its launcher the inputs."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Container, Mapping

from kfadapter_embedded.json_text import JsonValue
from kfadapter_grpc.check import rules

from .spec import mapping
from .values import Values, as_text
from .warned import TaskWarnings

WORKSPACE = "workspace_path"
_WORKSPACE = "{{$.workspace_path}}"
_NAME = re.compile(r"\{\{\$\.([a-z_]+)\}\}")
_INPUT = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")
# What else the launcher replaces.
_FILE = re.compile(r"\{\{\$\.(?:outputs|inputs\.artifacts).*?\.(?:output_file|uri|path)\}\}")


def task_names(names: Mapping[str, str], key: str, path: str) -> dict[str, str]:
    """The values of placeholders in the constants of the task `key` in the DAG at `path`: the run's, and its own."""
    # In KFP 2.17 this is ML Metadata's id of the DAG around the task (`driver/resolve.go`).
    number = 1000 + zlib.crc32(f"{names.get('pipeline_job_uuid')}/{path}".encode()) % 9000
    return {**names, "pipeline_task_name": key, "pipeline_task_uuid": str(number)}


def filled(
    constant: JsonValue, parameters: Mapping[str, JsonValue], names: Mapping[str, str], warnings: TaskWarnings
) -> JsonValue:
    """Fills in a constant, with the inputs of its task before conversion.

    As in KFP's driver (`driver/resolve.go:resolveInputParameter`), a name is replaced only if it is the whole string,
    and only the workspace inside longer ones; as in its launcher (`component/launcher_v2.go:compileCmdAndArgs`),
    inputs are inserted into strings at any depth, as strings. Placeholders without a value are kept.
    """
    if isinstance(constant, str):
        if _WORKSPACE in constant and WORKSPACE in names:
            constant = constant.replace(_WORKSPACE, names[WORKSPACE])
        elif (name := _NAME.fullmatch(constant)) and name[1] != WORKSPACE:
            return names.get(name[1], constant)
    if isinstance(constant, str):
        return _joined(constant, parameters, warnings)
    return _each_text(constant, lambda text: _whole_or_joined(text, parameters, warnings))


def filled_metadata(
    metadata: JsonValue, parameters: Mapping[str, JsonValue], warnings: TaskWarnings
) -> Mapping[str, JsonValue]:
    """Fills inputs into an importer's metadata, whole values with their type: KFP's importer does not replace them."""

    def of_text(text: str) -> JsonValue:
        whole = _INPUT.fullmatch(text)
        if whole and whole[1] in parameters:
            return parameters[whole[1]]
        return _INPUT.sub(lambda found: as_text(parameters.get(found[1], found[0])), text)

    found = mapping(_each_text(metadata, of_text))
    if found != metadata:
        warnings.warn(rules.IMPORTER_METADATA.text())
    return found


def has_placeholder(value: JsonValue, inputs: Container[str]) -> bool:
    """Whether KFP's launcher would replace a placeholder in a value."""
    text = as_text(value)
    return bool(_FILE.search(text)) or any(name in inputs for name in _INPUT.findall(text))


def with_places(values: Values, known: Mapping[str, str]) -> dict[str, JsonValue]:
    """The parameters of a command, where constants may refer to paths of its inputs and outputs (`getPlaceholders`)."""

    def of_text(text: str) -> JsonValue:
        return _FILE.sub(lambda found: known.get(found[0], found[0]), text)

    return {
        name: _each_text(value, of_text)
        if name in values.origins and values.origins[name].type == "RUNTIME_VALUE_INPUT"
        else value
        for name, value in values.parameters.items()
    }


def _each_text(value: JsonValue, change: Callable[[str], JsonValue]) -> JsonValue:
    """The value with all of its strings changed, including keys."""
    if isinstance(value, list):
        return [_each_text(one, change) for one in value]
    if isinstance(value, dict):
        return {as_text(change(key)): _each_text(one, change) for key, one in value.items()}
    return change(value) if isinstance(value, str) else value


def _whole_or_joined(text: str, parameters: Mapping[str, JsonValue], warnings: TaskWarnings) -> JsonValue:
    """A string inside a list or struct; a list or struct that would be broken by KFP is inserted as such."""
    joined, whole = _joined(text, parameters, warnings), _INPUT.fullmatch(text)
    value = parameters.get(whole[1]) if whole else None
    return value if isinstance(value, list | dict) and not _is_plain(joined) else joined


def _joined(text: str, parameters: Mapping[str, JsonValue], warnings: TaskWarnings) -> str:
    def text_of(found: re.Match[str]) -> str:
        if found[1] not in parameters:
            return found[0]
        part = as_text(parameters[found[1]])
        if not _is_plain(part):
            warnings.warn(rules.RAW_JSON_IN_TEXT.text(input=found[1]))
        return part

    return _INPUT.sub(text_of, text)


def _is_plain(text: str) -> bool:
    """Whether JSON needs no escapes for a string."""
    return json.dumps(text, ensure_ascii=False)[1:-1] == text
