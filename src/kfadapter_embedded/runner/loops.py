"""The items of a loop, and the inputs of its iterations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .values import Origin, RuntimeArtifact, ValueFaultError, Values, as_text, load_json

if TYPE_CHECKING:
    from kfadapter_embedded.json_text import JsonValue

    from .spec import Loop


def items(loop: Loop, inputs: Values) -> list[JsonValue] | list[RuntimeArtifact]:
    """The items of a loop; raises ValueFaultError if they are not a list."""
    if "inputArtifact" in loop.items:
        return list(inputs.artifacts.get(loop.items["inputArtifact"], ()))
    items: JsonValue = loop.items.get("raw") or inputs.parameters.get(loop.items.get("inputParameter", ""))
    try:
        items = load_json(items) if isinstance(items, str) else items
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list):
        raise ValueFaultError(f"the loop goes over {as_text(items)[:100]}, which is no list")
    return items


def with_item(loop: Loop, item: JsonValue | RuntimeArtifact, inputs: Values, origin: Origin) -> Values:
    """The inputs of an iteration: those of the loop, and its item."""
    origins = {**inputs.origins, loop.item_input: origin}
    if isinstance(item, RuntimeArtifact):
        return Values(inputs.parameters, {**inputs.artifacts, loop.item_input: (item,)}, origins)
    return Values({**inputs.parameters, loop.item_input: item}, inputs.artifacts, origins)
