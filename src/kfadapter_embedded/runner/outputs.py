"""What a component gives: parameters and artifacts, and where they are to be written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .spec import mapping
from .task_api import recorded
from .values import RuntimeArtifact, ValueFaultError, Values, load_json, parsed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kfadapter_embedded.json_text import JsonValue

    from .spec import Definitions

MAX_OUTPUT_BYTES = 16 << 20
"""How large the outputs of a task may be as JSON, artifacts' contents aside."""
# What KFP uploads itself; an artifact with another URI is recorded as it is.
_UPLOADED = ("gs://", "s3://", "minio://")


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
        """Reads what a component that ended well has given.

        Raises:
            ValueFaultError: KFP's launcher would fail the task: in our words, and in its own.
        """
        said = self._executor_output()
        returned, artifacts = mapping(said.get("parameterValues")), mapping(said.get("artifacts"))
        parameters = {
            name: returned[name] if name in returned else self._written(name, one.parameter_type)
            for name, one in self.declared.parameters.items()
        }
        return Values(parameters, {name: (self._made(name, artifacts.get(name)),) for name in self.declared.artifacts})

    def _executor_output(self) -> Mapping[str, JsonValue]:
        if not self._output_file.exists():
            return {}
        try:
            return mapping(load_json(_read(self._output_file)))
        except (ValueError, RecursionError) as error:
            reason = f'failed to unmarshall ExecutorOutput in file "{self._output_file}": proto: {error}'
            raise ValueFaultError(f"its outputs cannot be read: {error}", reason) from None

    def _written(self, name: str, kind: str) -> JsonValue:
        """A parameter that the component wrote into its file (`component/launcher_v2.go:collectOutputParameters`)."""
        path = self.folder / name
        reason = f'failed to read output parameter name="{name}" type="{kind}" path="{path}"'
        try:
            text = _read(path).decode(errors="replace")
        except OSError as error:
            words = f"{error.strerror or error}".lower()
            raise ValueFaultError(f"it gave no output {name!r}", f"{reason}: open {path}: {words}") from None
        try:
            return parsed(text, kind)
        except ValueFaultError as error:
            raise ValueFaultError(f"its output {name!r} cannot be read: {error}", f"{reason}: {error}") from None

    def _made(self, name: str, said: JsonValue) -> RuntimeArtifact:
        """An artifact that the component may have changed (`component/launcher_v2.go:uploadOutputArtifacts`)."""
        planned, listed = self._artifact(name), mapping(said).get("artifacts")
        given = mapping(listed[0]) if isinstance(listed, list) and listed else {}
        custom, uri = str(given.get("custom_path") or ""), str(given.get("uri") or planned.uri)
        root = planned.uri.removesuffix(f"/{self.folder.name}/{name}")
        if (custom or uri.startswith(_UPLOADED)) and not uri.startswith(root):
            raise ValueFaultError(
                f"the URI of its output {name!r}, {uri}, is outside the run's files ({root})",
                f'failed to upload output artifact "{name}": URI "{uri}" does not have expected bucket prefix "{root}"',
            )
        metadata = mapping(given.get("metadata"))
        if None in metadata.values():
            key = next(key for key, value in metadata.items() if value is None)
            raise ValueFaultError(
                f"the metadata of its output {name!r} hold None under {key!r}, which KFP cannot store",
                f'unable to produce MLMD artifact for output "{name}": failed to convert RuntimeArtifact to MLMD '
                "artifact: unknown/unsupported value type *structpb.Value_NullValue",
            )
        return recorded(replace(planned, uri=uri, metadata=metadata, custom_path=custom))


def _read(path: Path) -> bytes:
    """What a file of outputs holds; raises OSError, or ValueFaultError if that is too much."""
    if (size := path.stat().st_size) > MAX_OUTPUT_BYTES:
        raise ValueFaultError(f"its outputs are {size} bytes, and at most {MAX_OUTPUT_BYTES} are taken")
    return path.read_bytes()
