"""What a component gives: parameters and artifacts, and where they are to be written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .spec import mapping
from .task_api import recorded
from .values import RuntimeArtifact, ValueFaultError, Values, converted, load_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from kfadapter_embedded.json_text import JsonValue

    from .spec import Definitions

MAX_OUTPUT_BYTES = 16 << 20
"""How large the outputs of a task may be as JSON, artifacts' contents aside."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of one attempt.

    Attributes:
        folder: Where they are written.
        declared: What the component gives.
    """

    folder: Path
    declared: Definitions

    def planned(self) -> JsonValue:
        """Where each goes, as KFP's executor takes it."""
        parameters: dict[str, JsonValue] = {
            name: {"outputFile": str(self.folder / name)} for name in self.declared.parameters
        }
        made: dict[str, JsonValue] = {
            name: {"artifacts": [self._artifact(name).json()]} for name in self.declared.artifacts
        }
        return {"parameters": parameters, "artifacts": made, "outputFile": str(self._output_file)}

    @property
    def _output_file(self) -> Path:
        return self.folder / "executor_output.json"

    def _artifact(self, name: str) -> RuntimeArtifact:
        return RuntimeArtifact(name, self.declared.artifacts[name].artifact_type, str(self.folder / name))

    def read(self) -> Values:
        """Reads what a component that ended well has given; raises ValueFaultError if that cannot be."""
        said = self._executor_output()
        parameters = {**self._written_parameters(), **mapping(said.get("parameterValues"))}
        declared = self.declared
        kinds = {key: one.parameter_type for key, one in declared.parameters.items()}
        typed = {key: converted(value, kinds[key], key) for key, value in parameters.items() if key in kinds}
        artifacts = mapping(said.get("artifacts"))
        return Values(
            typed,
            {name: tuple(self._made(name, artifacts.get(name))) for name in declared.artifacts},
        )

    def _executor_output(self) -> Mapping[str, JsonValue]:
        if not self._output_file.exists():
            return {}
        size = self._output_file.stat().st_size
        if size > MAX_OUTPUT_BYTES:
            raise ValueFaultError(f"its outputs are {size} bytes, and at most {MAX_OUTPUT_BYTES} are taken")
        try:
            return mapping(load_json(self._output_file.read_bytes()))
        except (ValueError, RecursionError) as error:
            raise ValueFaultError(f"its outputs cannot be read: {error}") from None

    def _written_parameters(self) -> dict[str, JsonValue]:
        """Output parameters that the component wrote into files itself (`dsl.OutputPath`)."""
        files = {name: self.folder / name for name in self.declared.parameters}
        return {
            name: path.read_text("utf-8", errors="replace")
            for name, path in files.items()
            if path.is_file() and path.stat().st_size <= MAX_OUTPUT_BYTES
        }

    def _made(self, name: str, said: JsonValue) -> Iterator[RuntimeArtifact]:
        planned = self._artifact(name)
        listed = mapping(said).get("artifacts")
        for one in listed if isinstance(listed, list) else [{}]:
            given = mapping(one)
            custom = str(given.get("custom_path") or "")
            uri = str(given.get("uri") or planned.uri)
            yield recorded(replace(planned, uri=uri, metadata=mapping(given.get("metadata")), custom_path=custom))
