"""What a loop goes over, and what each of its iterations is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .values import Origin, RuntimeArtifact, ValueFaultError, Values, as_text, load_json

if TYPE_CHECKING:
    from kfadapter_embedded.json_text import JsonValue

    from .spec import Loop


def items(loop: Loop, inputs: Values) -> list[JsonValue] | list[RuntimeArtifact]:
    """What a loop goes over; raises ValueFaultError if it is no list."""
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
    """What an iteration is given: what the loop was, and its item."""
    origins = {**inputs.origins, loop.item_input: origin}
    if isinstance(item, RuntimeArtifact):
        return Values(inputs.parameters, {**inputs.artifacts, loop.item_input: (item,)}, origins)
    return Values({**inputs.parameters, loop.item_input: item}, inputs.artifacts, origins)
