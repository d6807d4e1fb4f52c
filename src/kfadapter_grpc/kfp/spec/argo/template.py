"""The templates of a Workflow, each read once however many tasks use it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.spec.argo import levels
from kfadapter_grpc.kfp.spec.argo.expression import names_in_depends
from kfadapter_grpc.kfp.spec.argo.pod import Pod, read_pod
from kfadapter_grpc.kfp.spec.order import without_circles
from kfadapter_grpc.kfp.spec.tree import MOST_TASKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kfadapter_grpc.kfp.spec.part import Fields, Part

_GROUPS = ("dag", "steps")


@dataclass(frozen=True, slots=True)
class Step:
    """A task of a DAG, or a step.

    Attributes:
        part: Where it stands.
        fields: Its keys.
        name: Its name in the group.
        template: The template that it runs.
        depends_on: The names of those that must be over before.
        arguments: What it gives to the template's inputs.
        is_exit: Whether it runs at the end of another one, whatever became of that.
    """

    part: Part
    fields: Fields
    name: str
    template: str
    depends_on: tuple[str, ...]
    arguments: Mapping[str, str] = field(default_factory=dict)
    is_exit: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """A template.

    Attributes:
        part: Where it stands.
        is_group: Whether it is a group of tasks.
        steps: Its tasks, in an order in which they can run.
        pod: What it runs where it is no group.
        parallelism: How many of its tasks run at once; 0 means as many as there are.
        max_retries: How often it is tried again.
    """

    part: Part
    is_group: bool
    steps: tuple[Step, ...] = ()
    pod: Pod = field(default_factory=Pod)
    parallelism: int = 0
    max_retries: int = 0


def read_template(part: Part, shared: Fields) -> Template:
    """Reads a template; one that is neither a group nor runs a container is noted."""
    fields = part.fields(levels.TEMPLATE)
    retries = _retries(fields["retryStrategy"])
    if any(fields.has(key) for key in _GROUPS):
        steps = tuple(_in_order(_steps(fields), part))
        return Template(part, True, steps, parallelism=fields["parallelism"].count(), max_retries=retries)
    for key in ("suspend", "resource"):
        if key in fields:
            fields[key].note()
    return Template(part, False, pod=read_pod(fields, shared), max_retries=retries)


def _retries(part: Part) -> int:
    """Reads how often a template is tried again; one without limit, or with a calculated one, is noted."""
    if part.is_absent:
        return 0
    fields = part.fields(levels.RETRY)
    if not fields.has("limit") or "{{" in fields["limit"].loose_text():
        part.note()
        return 0
    return fields["limit"].count()


def _steps(fields: Fields) -> Iterable[Step]:
    if fields.has("dag"):
        for part in fields["dag"].fields(levels.DAG)["tasks"].items():
            yield from _with_hooks(part, None)
        return
    before: tuple[str, ...] = ()
    for group in fields["steps"].items():
        steps = [step for part in group.items() for step in _with_hooks(part, before)]
        yield from steps
        before = tuple(step.name for step in steps) or before


def _with_hooks(part: Part, before: tuple[str, ...] | None) -> Iterable[Step]:
    """A step, and what runs at its end."""
    fields = part.fields(levels.STEP)
    name = fields["name"].text()
    if not name:
        part.note()
        return
    depends_on = _declared(fields) if before is None else before
    yield Step(part, fields, name, _template_name(fields), depends_on, dict(_arguments(fields["arguments"])))
    hook = fields["hooks"].fields(levels.HOOKS)["exit"].fields(levels.HOOK)["template"].text()
    for number, template in enumerate(one for one in (fields["onExit"].text(), hook) if one):
        yield Step(part, fields, f"{name}.onExit{number or ''}", template, (name,), is_exit=True)


def _template_name(fields: Fields) -> str:
    """The name of a template, `other/template` where it is another workflow template's."""
    if not fields.has("templateRef"):
        return fields["template"].text()
    reference = fields["templateRef"].fields(levels.TEMPLATE_REF)
    return f"{reference['name'].text()}/{reference['template'].text()}"


def _arguments(part: Part) -> Iterable[tuple[str, str]]:
    for one in part.fields(levels.ARGUMENTS)["parameters"].items():
        argument = one.fields(levels.STEP_ARGUMENT)
        if argument.has("value"):
            yield argument["name"].text(), argument["value"].loose_text()


def _declared(fields: Fields) -> tuple[str, ...]:
    listed = [one.text() for one in fields["dependencies"].items()]
    return tuple(dict.fromkeys([*listed, *names_in_depends(fields["depends"].text())]))


def _in_order(steps: Iterable[Step], part: Part) -> Iterable[Step]:
    """Puts steps behind those they depend on; a name that is there twice, or not at all, is noted."""
    known: dict[str, Step] = {}
    for step in islice(steps, MOST_TASKS):
        if step.name in known:
            step.part.note()
        else:
            known[step.name] = step
    declared = {name: tuple(one for one in step.depends_on if one in known) for name, step in known.items()}
    if len(known) == MOST_TASKS:
        part.note()
    for name, before in without_circles(declared).items():
        step = known[name]
        if len(before) < len(step.depends_on):
            _dependencies(step).note()
        yield replace(step, depends_on=before)


def _dependencies(step: Step) -> Part:
    return step.fields["depends" if "depends" in step.fields else "dependencies"]
