"""The resource limits of a step, as KFP's driver reads them (`driver/driver.go`: getPodResource, initPodSpecPatch)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kfadapter_embedded.json_text import JsonValue

from .spec import Component, Container
from .values import ValueFaultError

_INPUT = re.compile(r"\$.inputs.parameters\['(.+?)'\]")
_QUANTITY = re.compile(r"(?P<number>[+-]?[0-9.]+)(?P<suffix>[eEinumkKMGTP]*[-+]?[0-9]*)")
_WRONG = r"quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIXES = {
    **{name: 10.0**power for name, power in _DECIMAL.items()},
    **{f"{name}i": 1024.0 ** (at + 1) for at, name in enumerate("KMGTPE")},
}
_UNITS = {"Cpu": "", "Memory": "G"}


@dataclass(frozen=True)
class Limits:
    """Resource limits of a step: cores and bytes, 0 for no limit, and the type of accelerator that it requests."""

    cpus: float = 0.0
    memory: int = 0
    accelerator: str = ""


def limits_of(container: Container, parameters: Mapping[str, JsonValue]) -> Limits:
    """Parses a step's limits; raises ValueFaultError for an invalid quantity, as KFP's driver does."""
    fields = container.resources
    found: dict[str, float] = {}
    for kind, unit in _UNITS.items():
        for bound in ("Limit", "Request"):
            text = resolved(fields.get(f"resource{kind}{bound}", ""), parameters)
            old = fields.get(f"{kind.lower()}{bound}", 0)
            if text is None and old:
                text = f"{old}{unit}"
            if text is not None:
                found[f"{kind}{bound}"] = quantity(text)
    kind, count = _accelerator(container, parameters)
    if kind and count:
        quantity(count)
    return Limits(found.get("CpuLimit", 0.0), int(found.get("MemoryLimit", 0)), kind)


def task_config(component: Component, container: Container, parameters: Mapping[str, JsonValue]) -> JsonValue:
    """The value of a component's `dsl.TaskConfig` (`driver/driver.go`: TaskConfig, initPodSpecPatch).

    Settings of kfp-kubernetes are not in it.
    """
    config: dict[str, JsonValue] = dict.fromkeys(
        ("affinity", "tolerations", "nodeSelector", "env", "volumes", "volumeMounts")
    )
    resources: dict[str, JsonValue] = {}
    if "ENV" in component.passed_through:
        config["env"] = [{name: value for name, value in one.items() if value} for one in container.env]
    if "RESOURCES" in component.passed_through:
        for bound in ("limits", "requests"):
            given = _given(container, bound, parameters)
            if given:
                resources[bound] = given
    return {**config, "resources": resources}


def _given(container: Container, bound: str, parameters: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The limits or requests of a step by Kubernetes' names."""
    fields = container.resources
    found: dict[str, JsonValue] = {}
    for kind, unit in _UNITS.items():
        suffix = bound.title().removesuffix("s")
        old = fields.get(f"{kind.lower()}{suffix}", 0)
        text = resolved(fields.get(f"resource{kind}{suffix}", ""), parameters) or (old and f"{old:g}{unit}")
        if text:
            found[kind.lower()] = text
    kind, count = _accelerator(container, parameters)
    return {**found, kind: count} if kind and count and bound == "limits" else found


def _accelerator(container: Container, parameters: Mapping[str, JsonValue]) -> tuple[str, str]:
    """The type and the number of accelerators that a step requests."""
    fields = container.resources.get("accelerator", {})
    kind = resolved(fields.get("resourceType", ""), parameters) or fields.get("type", "")
    count = resolved(fields.get("resourceCount", ""), parameters) or str(fields.get("count", "") or "")
    return kind, count


def quantity(text: str) -> float:
    """Parses a quantity of Kubernetes, for example `500m` or `1.5Gi`; raises ValueFaultError if it is invalid."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueFaultError(f"failed to init podSpecPatch: {_WRONG}; {text!r} does not")
    suffix = match["suffix"]
    exponent = re.fullmatch(r"[eE]([-+]?[0-9]+)", suffix)
    try:
        return float(match["number"]) * (10.0 ** int(exponent[1]) if exponent else _SUFFIXES[suffix])
    except (KeyError, ValueError, OverflowError):
        raise ValueFaultError(f"failed to init podSpecPatch: unable to parse quantity {text!r}") from None


def resolved(text: str, parameters: Mapping[str, JsonValue]) -> str | None:
    """A field of the container, or the value of the parameter that it refers to; None if it is empty."""
    if not text:
        return None
    found = _INPUT.search(text)
    if found is None:
        return text
    if found[1] not in parameters:
        raise ValueFaultError(f"failed to init podSpecPatch: there is no input parameter {found[1]!r}")
    value = parameters[found[1]]
    return value if isinstance(value, str) else ""
