"""Finds where KFP treats a compiled pipeline differently from its author's intention."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

from kfadapter_grpc.check import rules
from kfadapter_grpc.check.kubernetes import needed_by
from kfadapter_grpc.check.pipeline import Group, Pipeline, Task, inside, mapping, text, walk
from kfadapter_grpc.check.python_code import artifact_reads, mentions, raises, writes_names, writes_structs
from kfadapter_grpc.check.rule import Finding, Severity
from kfadapter_grpc.check.values import INPUT, fields, known_items, known_values, short_name, sources, texts, types
from kfadapter_grpc.contract.spec import Json

MAX_FINDINGS = 1000
_IN_CODE = re.compile(r"\{\{\$(?:\.(?:inputs|outputs)\.[^{}]*)?\}\}")
_IF_PRESENT = re.compile(r'\s*\{"IfPresent": *\{"InputName": *"(?P<name>[^"]*)"')
_FOUR_BYTES = re.compile("[\U00010000-\U0010ffff]")
_STORES = ("gs://", "s3://", "minio://")
_IMAGES = "oci://"
_EXECUTOR = "kfp.dsl.executor_main"
_EXIT_HANDLER = "exit-handler-"


Findings: TypeAlias = "Iterator[Finding]"


def findings(pipeline: Pipeline) -> list[Finding]:
    """The findings of a pipeline, in the order of its tasks, each once."""
    if pipeline.is_workflow:
        return [rules.ARGO_WORKFLOW.at("")]
    unique = dict.fromkeys(_pipeline(pipeline))
    for task in pipeline.tasks():
        for check in _CHECKS:
            unique.update(dict.fromkeys(check(task)))
        if len(unique) > MAX_FINDINGS:
            break
    return list(unique)[:MAX_FINDINGS]


def notes(pipeline: Pipeline) -> list[Finding]:
    """Findings that depend on how a cluster was installed."""
    retried = (task for task in pipeline.tasks() if inside(task.spec, "retryPolicy").get("maxRetryCount"))
    return [rules.RETRY_POLICY.at(task.path, "note") for task in retried][:MAX_FINDINGS]


def _pipeline(pipeline: Pipeline) -> Findings:
    inputs = inside(pipeline.root.component, "inputDefinitions")
    for name, definition in mapping(inputs.get("artifacts")).items():
        if mapping(definition).get("isOptional") is not True:
            yield rules.ROOT_ARTIFACT.at("", "error", input=name)
    for name, definition in mapping(inputs.get("parameters")).items():
        if "\n" in text(mapping(definition).get("defaultValue")):
            yield rules.LINE_BREAK_IN_DEFAULT.at("", input=name)
    if character := _four_bytes([pipeline.spec, pipeline.platform]):
        yield rules.FOUR_BYTES.at("", "error", character=character)
    parts = [pipeline.spec.get(key) for key in ("components", "deploymentSpec", "root")]
    matches = (rules.ARGO_TEMPLATES.search(part) for part in walk(parts) if isinstance(part, str) and "{{" in part)
    if template := next(filter(None, matches), None):
        yield rules.ARGO_TEMPLATE.at("", "error", template=template[0])


def _four_bytes(value: Json) -> str:
    """The first character of four bytes in a value."""
    texts = (part for part in walk(value) if isinstance(part, str) and not part.isascii())
    return next((match[0] for text in texts if (match := _FOUR_BYTES.search(text))), "")


# --- groups ---------------------------------------------------------------------------------------------------------


def _loops(task: Task) -> Findings:
    """The items of a loop, and what is accessed inside it."""
    if "artifactIterator" in task.spec:
        yield rules.LOOP_OVER_ARTIFACTS.at(task.path, "error", loop=task.name)
    selected = any(mapping(source).get("parameterExpressionSelector") for source in task.inputs("parameters").values())
    if task.loop and selected:
        yield rules.LOOP_OVER_ITEM_FIELD.at(task.path, "error", loop=task.name)
    around = task.group.task
    iterated = text(inside(around.loop, "items").get("inputParameter")) if around else ""
    for name, source in task.inputs("parameters").items():
        if around and iterated and mapping(source).get("componentInputParameter") == iterated:
            yield rules.LOOPED_LIST_INSIDE.at(task.path, "error", input=short_name(name), loop=around.name)


def _collected(task: Task) -> Findings:
    """Outputs collected from loops."""
    for kind in ("parameters", "artifacts"):
        for name, origin in task.origins(kind):
            is_direct = any(key.startswith("taskOutput") for key in mapping(task.inputs(kind)[name]))
            for producer in origin.task.producers(origin.name, kind) if is_direct and origin.task else ():
                if empty := next((loop for loop in producer.loops if not known_items(loop)), None):
                    certain = known_items(empty) == []
                    severity: Severity = "error" if certain else "warning"
                    yield rules.COLLECTED_EMPTY.at(task.path, severity, input=short_name(name), loop=empty.path)
                if producer.is_skipped:
                    loop = producer.loops[-1].path
                    yield rules.COLLECTED_SKIPPED.at(task.path, input=short_name(name), loop=loop)
                if len(producer.loops) > 1 and kind == "parameters":
                    yield rules.COLLECTED_TWICE.at(task.path, input=short_name(name))
                if producer.loops and "importer" in producer.task.executor:
                    loop = producer.loops[-1].path
                    yield rules.COLLECTED_IMPORTS.at(task.path, "error", input=short_name(name), loop=loop)
                if producer.is_one_of:
                    yield rules.COLLECTED_ONE_OF.at(task.path, input=short_name(name), loop=producer.loops[-1].path)


def _one_of(task: Task) -> Findings:
    """Outputs of branches that may count as running after their end."""
    for kind in ("parameters", "artifacts"):
        for name, origin in task.origins(kind):
            if origin.task is None or not any(key.startswith("taskOutput") for key in mapping(task.inputs(kind)[name])):
                continue
            branches = origin.task.branches(origin.name, kind)
            if any(branch.inner_group and _may_stay_running(branch.inner_group) for branch in branches):
                yield rules.ONE_OF_RUNNING.at(task.path, input=short_name(name), loop=origin.task.name)


def _may_stay_running(group: Group) -> bool:
    """Whether the last task of a group may be one whose end KFP does not see."""
    tasks = list(group.tasks.values())
    if any(task.condition for task in tasks):
        return False  # depends on values
    before = {earlier for task in tasks for earlier in task.depends_on}
    return all(
        _may_stay_running(task.inner_group)
        if task.inner_group
        else "importer" in task.executor or bool(inside(task.spec, "cachingOptions").get("enableCache"))
        for task in tasks
        if task not in before
    )


def _artifact_inputs(task: Task) -> Findings:
    """Artifacts that a task receives twice, and lists for nested pipelines."""
    received: dict[tuple[Task | None, str], list[str]] = {}
    for name, origin in task.origins("artifacts"):
        if origin.task:
            received.setdefault((origin.task, origin.name), []).append(f"'{short_name(name)}'")
        if origin.task and task.inner_group:
            loops = (loop for producer in origin.task.producers(origin.name, "artifacts") for loop in producer.loops)
            if any(len(known_items(loop) or "??") > 1 for loop in loops):
                yield rules.ARTIFACT_LIST_INTO_PIPELINE.at(task.path, "error", input=short_name(name))
    for names in received.values():
        if len(names) > 1:
            yield rules.SAME_ARTIFACT.at(task.path, "error", inputs=" and ".join(names))


def _optional(task: Task) -> Findings:
    """Optional parameters that are passed to nested pipelines."""
    taken = (
        set()
        if task.inner_group is None
        else {
            text(mapping(source).get("componentInputParameter"))
            for inner in task.inner_group.tasks.values()
            for source in inner.inputs("parameters").values()
        }
    )
    for name, origin in task.origins():
        if name in taken and origin.kind in {"parameter", "unset"} and task.definition(name).get("isOptional"):
            outer = mapping(origin.value)
            if outer.get("isOptional") and outer.get("defaultValue") is None:
                yield rules.OPTIONAL_INTO_PIPELINE.at(task.path, input=name)


# --- failures -------------------------------------------------------------------------------------------------------


def _ignored(task: Task) -> Findings:
    """Tasks that ignore failures: exit hooks for KFP. Exit handlers are intended as such."""
    for earlier in task.depends_on:
        if earlier.ignores_failures:
            yield rules.IGNORED_DEPENDENTS.at(task.path, "error", task=earlier.name)
    before = (
        [earlier for earlier in task.depends_on if not earlier.name.startswith(_EXIT_HANDLER)]
        if task.ignores_failures
        else []
    )
    if len(before) > 1:
        yield rules.IGNORED_TWICE.at(task.path, "error", count=str(len(before)))
    for earlier in before:
        others = [
            other for other in task.group.tasks.values() if other.ignores_failures and earlier in other.depends_on
        ]
        for other in others:
            if other is not task:
                yield rules.IGNORED_SHARED.at(task.path, "error", other=other.name, task=earlier.name)
        if earlier.loop or "importer" in earlier.executor:
            yield rules.IGNORED_WITHOUT_HOOK.at(task.path, "error", task=earlier.name)
        elif earlier.depends_on:
            yield rules.IGNORED_SKIPPED.at(task.path, task=earlier.name)


def _ignored_outputs(task: Task) -> Findings:
    """Outputs of tasks whose failures are ignored; strings only of tasks whose code fails in some cases."""
    for name, origin in task.origins() if task.ignores_failures else ():
        if origin.kind == "output" and origin.task:
            is_string = task.definition(name).get("parameterType") == "STRING"
            if not is_string or raises(origin.task.code):
                yield rules.IGNORED_OUTPUT.at(task.path, task=origin.task.name, input=short_name(name))
    for name, origin in task.origins("artifacts") if task.ignores_failures else ():
        is_optional = inside(task.component, "inputDefinitions", "artifacts", name).get("isOptional")
        if origin.kind == "output" and origin.task and is_optional:
            yield rules.IGNORED_ARTIFACT.at(task.path, task=origin.task.name, input=short_name(name))


def _final_status(task: Task) -> Findings:
    for name in inside(task.component, "inputDefinitions", "parameters"):
        if task.definition(name).get("parameterType") == "TASK_FINAL_STATUS" and mentions(task.code, "SUCCEEDED"):
            yield rules.FINAL_STATUS.at(task.path, input=name)


# --- artifacts, code and surroundings -------------------------------------------------------------------------------


def _missing_artifacts(task: Task) -> Findings:
    """Optional artifacts that the containing group did not receive."""
    received = task.group.task.inputs("artifacts") if task.group.task else {}
    for name, source in task.inputs("artifacts").items():
        taken = text(mapping(source).get("componentInputArtifact"))
        if taken not in received and task.group.declared(taken, "artifacts").get("isOptional"):
            yield rules.MISSING_ARTIFACT.at(task.path, "error", input=name)


def _artifacts(task: Task) -> Findings:
    """Metadata and names of artifacts that consumers read differently from how producers wrote them."""
    for name, origin in task.origins("artifacts"):
        read_types = artifact_reads(task.code, name)
        if not read_types or origin.kind != "output" or origin.task is None:
            continue
        makers = [producer.task for producer in origin.task.producers(origin.name, "artifacts")]
        changed = {
            "metadata": any(writes_structs(maker.code) or _imports_structs(maker) for maker in makers),
            "name": any(writes_names(maker.code) for maker in makers),
        }
        if attributes := " and ".join(attribute for attribute in read_types if changed[attribute]):
            yield rules.ARTIFACT_METADATA.at(task.path, attributes=attributes, input=name)


def _imports_structs(task: Task) -> bool:
    metadata = mapping(inside(task.executor, "importer").get("metadata"))
    return any(isinstance(value, dict | list | bool) for value in metadata.values())


def _importers(task: Task) -> Findings:
    """The source of an importer's address, the metadata that it sets, and importers under another name."""
    for name, origin in task.origins("artifacts"):
        producer = origin.task if "taskOutputArtifact" in mapping(task.inputs("artifacts")[name]) else None
        if producer is None or "importer" not in producer.executor:
            continue
        if inside(producer.spec, "taskInfo").get("name", producer.name) != producer.name:
            yield rules.IMPORTER_DISPLAY_NAME.at(task.path, "error", input=short_name(name), task=producer.name)
        uri = text(inside(producer.executor, "importer", "artifactUri").get("constant"))
        if uri.startswith(_IMAGES):
            yield rules.NEEDS_POD.at(task.path, needed=f"the model in the image {uri}")
    importer = inside(task.executor, "importer")
    address = inside(importer, "artifactUri")
    source = mapping(task.inputs("parameters").get(text(address.get("runtimeParameter"))))
    if source and ("componentInputParameter" not in source or source.get("parameterExpressionSelector")):
        yield rules.IMPORTER_URI.at(task.path, "error", input=text(address.get("runtimeParameter")))
    values = [address.get("constant"), *(known_values(task.group.origin(source)) if source else ())]
    for uri in filter(None, map(text, values)):
        if "://" not in uri or uri.startswith("file:"):
            yield rules.LOCAL_IMPORT.at(task.path, "error", uri=uri)
        elif not uri.startswith(_STORES) and not (uri.startswith(_IMAGES) and _is_model(task)):
            yield rules.IMPORTER_ADDRESS.at(task.path, "error", uri=uri)
    if any(isinstance(value, str) and INPUT.search(value) for value in walk(importer.get("metadata"))):
        yield rules.IMPORTER_METADATA.at(task.path)


def _is_model(importer: Task) -> bool:
    outputs = inside(importer.component, "outputDefinitions", "artifacts").values()
    return all(inside(output, "artifactType").get("schemaTitle") == "system.Model" for output in outputs)


def _code(task: Task) -> Findings:
    for placeholder in dict.fromkeys(_IN_CODE.findall(task.source)):
        severity: Severity = "error" if placeholder == "{{$}}" else "warning"
        yield rules.PLACEHOLDER_IN_CODE.at(task.path, severity, placeholder=placeholder)


def _commands(task: Task) -> Findings:
    """Parts that KFP's driver omits from the command of a container component."""
    if "container" not in task.executor or _EXECUTOR in " ".join(task.command):
        return
    artifacts = inside(task.component, "inputDefinitions", "artifacts")
    for part in task.command:
        if part.lstrip().startswith('{"Concat"'):
            yield rules.CONCAT.at(task.path, part=part)
        elif match := _IF_PRESENT.match(part):
            if match["name"] in artifacts:
                yield rules.IF_PRESENT_ARTIFACT.at(task.path, input=match["name"])
        elif "$.outputs" not in part:
            for name in dict.fromkeys(placeholder["name"] for placeholder in INPUT.finditer(part)):
                if name not in task.inputs("parameters"):
                    yield rules.DEFAULT_IN_COMMAND.at(task.path, "error", input=name)


def _surroundings(task: Task) -> Findings:
    """What must exist outside the pipeline."""
    for needed, requirement in needed_by(task):
        rule = rules.NEEDS_KUBERNETES if requirement else rules.NEEDS_POD
        yield rule.at(task.path, needed=needed)
    container = inside(task.executor, "container")
    image = text(container.get("image"))
    if container and _EXECUTOR not in " ".join(task.command) and not image.startswith("argostub/"):
        yield rules.NEEDS_CONTAINER.at(task.path, image=image)


_CHECKS: tuple[Callable[[Task], Findings], ...] = (
    sources,
    texts,
    types,
    fields,
    _loops,
    _collected,
    _one_of,
    _artifact_inputs,
    _optional,
    _ignored,
    _ignored_outputs,
    _final_status,
    _missing_artifacts,
    _artifacts,
    _importers,
    _code,
    _commands,
    _surroundings,
)
