"""Imports external artifacts, and downloads them for the steps that use them."""

from __future__ import annotations

import json
import os
import re
import threading
import uuid
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kfadapter_embedded.execution import State
from kfadapter_embedded.json_text import sound_text, to_json
from kfadapter_grpc.check.rules import IMPORTER_URI, LOCAL_IMPORT

from .environment import ARTIFACT_STORES
from .log import TaskLog
from .outcome import IMPORTED, Outcome
from .placeholders import filled_metadata
from .places import IMAGES, STORES, Tree, transfer
from .spec import Component, Importer, Task
from .task_api import recorded
from .values import RuntimeArtifact, ValueFaultError, Values
from .warned import TaskWarnings

MOST_BYTES = 5 << 30
_SECONDS = 3600.0
# As in KFP's `objectstore/config.go`.
_BUCKET = re.compile(r"[a-z][a-z0-9]+:///?[^/?]+(?:/[^?]*)?(?:\?.+)?")
_LAUNCHER = "failed to execute importer component: failed to create MLMD artifact from ImporterSpec"


def imported(
    task: Task, component: Component, values: Values, *, imports: Imports, log: TaskLog, warnings: TaskWarnings
) -> Outcome:
    """Imports an artifact: it is downloaded only into the workspace, and a file of this machine must exist."""
    importer = component.executor.importer or Importer()
    parameter = importer.artifact_uri.get("runtimeParameter", "")
    value = values.parameters.get(parameter)
    uri = importer.artifact_uri.get("constant") or (value if isinstance(value, str) else "")
    source = task.inputs.parameters.get(parameter)
    if source and (not source.component_input_parameter or source.parameter_expression_selector):
        warnings.warn(IMPORTER_URI.text(input=parameter))
    declared = component.output_definitions.artifacts.items()
    parts = urlsplit(uri)
    if uri and parts.scheme in {"", "file"}:
        uri = unquote(parts.path) if parts.scheme else uri
        if not Path(uri).exists():
            return _refused(f"it imports {uri}, and there is no such file on this machine")
        warnings.warn(LOCAL_IMPORT.text(uri=uri))
    elif fault := _fault(uri, importer, {str(one.artifact_type.get("schemaTitle")) for _, one in declared}):
        return _refused(fault)
    try:
        in_workspace = imports.into_workspace(uri, log) if importer.download_to_workspace else ""
    except ValueFaultError as error:
        return _refused(f"failed to download artifact to workspace: {error}")
    if not in_workspace:
        log.note(f"imports {uri}; nothing is copied")
    metadata = filled_metadata(importer.metadata or {}, values.parameters, warnings)
    made = {
        name: recorded(RuntimeArtifact(name, one.artifact_type, uri, metadata), imported=True) for name, one in declared
    }
    if not importer.reimport:
        made = {name: _reused(artifact) for name, artifact in made.items()}
    values = Values(artifacts={name: (replace(one, workspace_path=in_workspace),) for name, one in made.items()})
    return Outcome(State.SUCCEEDED, values=values, known=IMPORTED)


def _fault(uri: str, importer: Importer, titles: set[str]) -> str:
    """Why KFP's importer rejects a URI (`component/importer_launcher.go:ImportSpecToMLMDArtifact`)."""
    if not uri:
        return "empty artifact URI"
    if uri.startswith(IMAGES):
        if importer.download_to_workspace:
            return "importer workspace download does not support OCI registries"
        others = titles - {"system.Model"}
        return f"the {min(others)} artifact type does not support OCI registries" if others else ""
    if not uri.startswith(STORES) or not _BUCKET.fullmatch(uri):
        schemes = ", ".join((*STORES, IMAGES))
        return f"no provider scheme found in artifact URI: {uri}: KFP imports from {schemes} only"
    return ""


def _refused(fault: str) -> Outcome:
    return Outcome(State.FAILED, fault, message=f"{_LAUNCHER}: {fault}", known="RUNNING")


class Imports:
    """The imported artifacts that the steps of a run use, each downloaded once."""

    def __init__(self, folder: Path, workspace: Path) -> None:
        self._folder = folder
        self._workspace = workspace
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def path(self, uri: str, log: TaskLog) -> Path:
        """The path of a local copy, which exists if the store has any object; raises ValueFaultError on failure."""
        with self._lock:
            lock = self._locks.setdefault(uri, threading.Lock())
        folder = self._folder / sha256(uri.encode(errors="replace")).hexdigest()[:32]
        with lock:
            if not (folder / "done").exists():
                log.note(f"downloads {uri}")
                folder.mkdir(parents=True, exist_ok=True)
                _download(uri, folder)
                (folder / "done").touch()
        return folder / "it"

    def into_workspace(self, uri: str, log: TaskLog) -> str:
        """Downloads an artifact into the workspace (`component/launcher_v2.go:LocalWorkspacePathForURI`).

        Returns the path; empty for a file of this machine. Raises ValueFaultError on failure.
        """
        place = Tree(self._workspace / ".artifacts", "").path(uri)
        if place is None:
            return ""
        transfer(self.path(uri, log), place)
        return str(place)


def _download(uri: str, folder: Path) -> None:
    """Downloads all objects of a URI as KFP's launcher does (`objectstore/object_store.go:DownloadBlob`)."""
    # Few runs need these modules, and importing them takes a second.
    from kfadapter_grpc.contract.call import Call  # noqa: PLC0415
    from kfadapter_grpc.contract.errors import AdapterError  # noqa: PLC0415
    from kfadapter_grpc.kfp.artifact_stores import Location  # noqa: PLC0415
    from kfadapter_grpc.kfp.object_stores import ObjectStores  # noqa: PLC0415

    try:
        location = Location.of(uri.partition("?")[0])
        stores = ObjectStores(_settings(location.scheme, location.bucket, folder))
    except (AdapterError, OSError, ValueError) as error:
        raise ValueFaultError(f"{uri}: {error}") from None
    try:
        place = stores.open(location, "", Call("import", _SECONDS))
        whole = place.file("")
        files = [whole] if whole else place.files()
        if (size := sum(one.size for one in files)) > MOST_BYTES:
            raise ValueFaultError(f"{uri} has {size} bytes, and at most {MOST_BYTES} are downloaded")
        for file in files:
            path = folder / "it" / file.path if file.path else folder / "it"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as target:
                for piece in place.chunks(file, 0, file.size):
                    target.write(piece)
    except AdapterError as error:
        raise ValueFaultError(f"{uri}: {error.message}. {_HOW}") from None
    finally:
        stores.close()


_HOW = (
    f"Stores are accessed as configured in the file of {ARTIFACT_STORES}, or with the credentials in the environment "
    "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL; GOOGLE_APPLICATION_CREDENTIALS)"
)


def _settings(scheme: str, bucket: str, folder: Path) -> Path:
    """The file with the settings of artifact stores: the adapter's, or one that uses the environment, as in KFP."""
    if given := os.environ.get(ARTIFACT_STORES):
        return Path(given)
    endpoint, region = os.environ.get("AWS_ENDPOINT_URL", ""), os.environ.get("AWS_REGION", "")
    default: dict[str, object] = {"credentials": {"fromEnv": True}}
    if scheme != "gs":
        default |= {"endpoint": endpoint, "region": region}
    made = folder / "stores.json"
    stores = {"providers": {scheme: {"default": default}}, "readable": [f"{scheme}://{bucket}"]}
    made.write_text(json.dumps(stores), encoding="utf-8")
    return made


def _reused(artifact: RuntimeArtifact) -> RuntimeArtifact:
    """The artifact with an id that is the same for each import, so that the cache hits; a changed file gets another."""
    found = Path(artifact.uri).stat() if artifact.uri.startswith("/") else None
    version = (found.st_mtime_ns, found.st_size) if found else ()
    same = to_json([artifact.type, artifact.uri, dict(artifact.metadata), version])
    identity = str(uuid.uuid5(uuid.NAMESPACE_URL, sound_text(same)))
    return replace(artifact, records=tuple({**one, "artifact_id": identity} for one in artifact.records))
