"""The outputs of a component: parameters and artifacts, and where to write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kfadapter_embedded.json_text import JsonValue

from .places import IMAGES, Store, Tree, transfer
from .spec import Definitions, mapping
from .task_api import recorded
from .values import RuntimeArtifact, ValueFaultError, Values, load_json, parsed

MAX_OUTPUT_BYTES = 16 << 20
"""How large the outputs of a task may be as JSON, artifacts' contents aside."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of one attempt: written into its tree, and stored with URIs that begin with `root`."""

    tree: Tree
    store: Store
    root: str
    declared: Definitions

    def planned(self) -> JsonValue:
        """The location of each output, in the form of KFP's executor input."""
        parameters: dict[str, JsonValue] = {
            name: {"outputFile": self.tree.shown(self.tree.parameter(name))} for name in self.declared.parameters
        }
        made: dict[str, JsonValue] = {}
        for name, one in self.declared.artifacts.items():
            planned: dict[str, JsonValue] = {
                "name": name,
                "type": one.artifact_type,
                "uri": self.uri(name),
                "metadata": one.metadata,
            }
            made[name] = {"artifacts": [planned]}
        return {"parameters": parameters, "artifacts": made, "outputFile": self.tree.shown(self.file)}

    def make_folders(self) -> None:
        """Creates the folders for the outputs (`component/launcher_v2.go:prepareOutputFolders`)."""
        files = [self.tree.parameter(name) for name in self.declared.parameters]
        files += [self.path(name) for name in self.declared.artifacts]
        for file in (*files, self.file):
            file.parent.mkdir(parents=True, exist_ok=True)

    def uri(self, name: str) -> str:
        """The planned URI of an artifact."""
        return f"{self.root}/{name}"

    def path(self, name: str) -> Path:
        """Where the step writes an artifact."""
        return self._path(self.uri(name))

    @cached_property
    def file(self) -> Path:
        """The file in which KFP's executor reports outputs."""
        return self._path(f"{self.root}/output_metadata.json")

    def _path(self, uri: str) -> Path:
        if (path := self.tree.path(uri)) is None:
            raise ValueError(uri)
        return path

    def read(self) -> Values:
        """Reads the outputs of a component that succeeded; or ValueFaultError with our message and the launcher's."""
        said = self._executor_output()
        returned, artifacts = mapping(said.get("parameterValues")), mapping(said.get("artifacts"))
        parameters = {
            name: returned[name] if name in returned else self._written(name, one.parameter_type)
            for name, one in self.declared.parameters.items()
        }
        return Values(parameters, {name: (self._made(name, artifacts.get(name)),) for name in self.declared.artifacts})

    def _executor_output(self) -> Mapping[str, JsonValue]:
        if not self.file.exists():
            return {}
        try:
            return mapping(load_json(_read(self.file)))
        except (ValueError, RecursionError) as error:
            reason = f'failed to unmarshall ExecutorOutput in file "{self.tree.shown(self.file)}": proto: {error}'
            raise ValueFaultError(f"its outputs cannot be read: {error}", reason) from None

    def _written(self, name: str, kind: str) -> JsonValue:
        """An output parameter from the component's file (`component/launcher_v2.go:collectOutputParameters`)."""
        path = self.tree.parameter(name)
        shown = self.tree.shown(path)
        reason = f'failed to read output parameter name="{name}" type="{kind}" path="{shown}"'
        try:
            text = _read(path).decode()
        except UnicodeDecodeError:
            # Go takes any bytes for a text, but gRPC cannot publish them.
            words = "failed to publish results to ML Metadata: string field contains invalid UTF-8"
            raise ValueFaultError(f"its output {name!r} is no UTF-8", words) from None
        except OSError as error:
            words = f"{error.strerror or error}".lower()
            raise ValueFaultError(f"it gave no output {name!r}", f"{reason}: open {shown}: {words}") from None
        try:
            return parsed(text, kind)
        except ValueFaultError as error:
            raise ValueFaultError(f"its output {name!r} cannot be read: {error}", f"{reason}: {error}") from None

    def _made(self, name: str, said: JsonValue) -> RuntimeArtifact:
        """Stores an artifact, with what the component reported about it."""
        listed = mapping(said).get("artifacts")
        given = mapping(listed[0]) if isinstance(listed, list) and listed else {}
        custom, uri = given.get("custom_path") or given.get("customPath"), str(given.get("uri") or self.uri(name))
        path = self._kept(name, uri, str(custom or ""))
        declared = self.declared.artifacts[name]
        metadata = {**declared.metadata, **mapping(given.get("metadata"))}
        if None in metadata.values():
            key = next(key for key, value in metadata.items() if value is None)
            raise ValueFaultError(
                f"the metadata of its output {name!r} hold None under {key!r}, which KFP cannot store",
                f'unable to produce MLMD artifact for output "{name}": failed to convert RuntimeArtifact to MLMD '
                "artifact: unknown/unsupported value type *structpb.Value_NullValue",
            )
        return recorded(RuntimeArtifact(name, declared.artifact_type, uri, metadata, path))

    def _kept(self, name: str, uri: str, custom: str) -> str:
        """The path at which an artifact is stored from now on (`component/launcher_v2.go:uploadOutputArtifacts`).

        Empty if KFP would not upload it. A file at a custom path is copied, not moved: it may not belong to the step.
        """
        written = self.tree.found(custom) if custom else self.tree.path(uri)
        if written is None or uri.startswith(IMAGES):
            return ""
        try:
            path = self.store.path(uri)
        except ValueFaultError as error:
            raise ValueFaultError(
                f"the URI of its output {name!r}, {uri}, is outside the run's files ({self.store.root})",
                f'failed to upload output artifact "{name}": {error}',
            ) from None
        try:
            transfer(written, path, move=not custom)
        except ValueFaultError as error:
            raise ValueFaultError(f"its output {name!r} cannot be stored: {error}") from None
        return str(path)


def _read(path: Path) -> bytes:
    """Reads a file of outputs; raises OSError, or ValueFaultError if it is too large."""
    if (size := path.stat().st_size) > MAX_OUTPUT_BYTES:
        raise ValueFaultError(f"its outputs are {size} bytes, and at most {MAX_OUTPUT_BYTES} are taken")
    return path.read_bytes()
