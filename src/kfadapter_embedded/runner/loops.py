"""The items of a loop, and the inputs of its iterations."""

from __future__ import annotations

from contextlib import suppress

from kfadapter_embedded.json_text import JsonValue

from .spec import Loop
from .values import Origin, RuntimeArtifact, ValueFaultError, Values, as_text, load_json


def items(loop: Loop, inputs: Values) -> list[JsonValue] | list[RuntimeArtifact]:
    """The items of a loop, in a list or in a text (`driver/util.go:getItems`).

    Raises ValueFaultError if they are neither, or the text is not JSON.
    """
    if "inputArtifact" in loop.items:
        return list(inputs.artifacts.get(loop.items["inputArtifact"], ()))
    raw = loop.items.get("raw")
    given: JsonValue = raw or inputs.parameters.get(loop.items.get("inputParameter", ""))
    with suppress(ValueError, RecursionError):
        given = load_json(raw) if raw else given
        found = load_json(given) if isinstance(given, str) else given
        if isinstance(found, list):
            return found
        if isinstance(given, str):
            return []  # the text of another value has no items
    raise ValueFaultError(f"the loop iterates over {as_text(given)[:100]}, which is not a list")


def with_item(loop: Loop, item: JsonValue | RuntimeArtifact, inputs: Values, origin: Origin) -> Values:
    """The inputs of an iteration: those of the loop, and its item."""
    origins = {**inputs.origins, loop.item_input: origin}
    if isinstance(item, RuntimeArtifact):
        return Values(inputs.parameters, {**inputs.artifacts, loop.item_input: (item,)}, origins)
    return Values({**inputs.parameters, loop.item_input: item}, inputs.artifacts, origins)
