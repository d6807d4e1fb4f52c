"""Locations of artifacts: KFP's URIs, the paths of their files for a step, and the stored artifacts of a run.

In KFP each step is a pod: its inputs are downloaded for it alone, and its outputs are uploaded when it has succeeded.
Here, each attempt has its own tree of files with copies of its inputs, which it may change.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .values import ValueFaultError

DEFAULT_ROOT = "minio://mlpipeline/v2/artifacts"
"""KFP's root of all pipelines (`config/env.go:DefaultPipelineRoot`)."""
STORES = ("minio://", "s3://", "gs://")
"""The stores that KFP downloads from and uploads to."""
IMAGES = "oci://"
_FOLDERS = {"minio://": "minio", "s3://": "s3", "gs://": "gcs"}
_TEMPORARY = "tmp"
_WORKSPACE = "workspace"
_PARAMETERS = "tmp/kfp/outputs"
_PIECE = 1 << 30


@dataclass(frozen=True)
class Tree:
    """The files of an attempt, with the layout that KFP's launcher uses in a pod.

    The step sees their folder at `seen`: itself, or the root, which is empty here.
    """

    folder: Path
    seen: str

    def path(self, uri: str) -> Path | None:
        """The step's path of the artifact of a URI (`component/launcher_v2.go:LocalPathForURI`); None for others."""
        for scheme, name in _FOLDERS.items():
            if uri.startswith(scheme):
                return self.folder / name / _inside(uri, uri[len(scheme) :])
        return None

    def parameter(self, name: str) -> Path:
        """Where the step writes an output parameter."""
        return self.folder / _PARAMETERS / _inside(name, name)

    def shown(self, path: Path) -> str:
        """A path as the step sees it."""
        return f"{self.seen}/{path.relative_to(self.folder)}"

    def found(self, shown: str) -> Path:
        """The file of a path given by the step; relative paths are resolved in its working directory."""
        return self.work / shown if self.seen else self.folder / shown.lstrip("/")

    def link_workspace(self, path: Path, target: str) -> None:
        """Makes a link to an artifact in the workspace, where KFP's SDK looks for it; `path` is that of a copy."""
        link = self.folder / _WORKSPACE / ".artifacts" / str(path).lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(target)

    @property
    def work(self) -> Path:
        """The working directory of a step that runs as a process."""
        return self.folder.with_name("work")

    @property
    def mounts(self) -> dict[str, Path]:
        """The mounts of a container: the tree, and its parts at their paths in a pod; creates their folders."""
        parts = {f"/{name}": self.folder / name for name in (*_FOLDERS.values(), _TEMPORARY)}
        for folder in parts.values():
            folder.mkdir(parents=True, exist_ok=True)
        return {str(self.folder): self.folder, **parts}


@dataclass(frozen=True)
class Store:
    """The stored artifacts of a run, in a folder; their URIs begin with `root`."""

    folder: Path
    root: str

    def path(self, uri: str) -> Path:
        """The path of a stored artifact, by its URI; raises ValueFaultError with the text of KFP's `KeyFromURI`."""
        if not uri.startswith(self.root):
            raise ValueFaultError(f'URI "{uri}" does not have expected bucket prefix "{self.root}"')
        if not (key := uri[len(self.root) :].lstrip("/")):
            raise ValueFaultError(f'URI "{uri}" has empty key given prefixed bucket "{self.root}"')
        return self.folder / _inside(uri, key)


def root_of(given: str, pipeline: str, run_id: str) -> str:
    """The root of a run's artifacts, as KFP's driver makes it: under the given root if that is in an object store."""
    base = given.partition("?")[0].rstrip("/") if given.startswith(STORES) else DEFAULT_ROOT
    return f"{base}/{pipeline}/{run_id}"


def transfer(source: Path, target: Path, *, move: bool = False) -> None:
    """Copies or moves a file, or the files of a folder, if any; raises ValueFaultError for what cannot be stored.

    As between KFP's launcher and an object store: folders without files are dropped, and links are followed.
    """
    move = move and not source.is_symlink()
    if not source.is_dir():
        if source.exists():
            _transfer_file(source, target, move=move)
        return
    for file in _files(source):
        _transfer_file(file, target / file.relative_to(source), move=move)


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        for name in folders:
            if (path := Path(parent, name)).is_symlink():
                raise ValueFaultError(f"{path} is a link to a folder, which KFP does not store")
        yield from (Path(parent, name) for name in names)


def _transfer_file(source: Path, target: Path, *, move: bool) -> None:
    try:
        found = source.stat()
    except FileNotFoundError:
        raise ValueFaultError(f"{source} is a link to nothing, which KFP does not store") from None
    if not stat.S_ISREG(found.st_mode):
        raise ValueFaultError(f"{source} is no regular file, which KFP does not store")
    target.parent.mkdir(parents=True, exist_ok=True)
    if move and not source.is_symlink():
        source.replace(target)
    else:
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """Copies a file; if the file system supports it, both share their blocks until one is changed."""
    with source.open("rb", buffering=0) as given, target.open("wb", buffering=0) as made:
        with suppress(AttributeError, OSError):  # not on macOS, nor between all file systems
            while os.copy_file_range(given.fileno(), made.fileno(), _PIECE):
                pass
        shutil.copyfileobj(given, made, 1 << 20)


def _inside(whole: str, path: str) -> str:
    """The path, if it stays inside its folder; raises ValueFaultError otherwise."""
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueFaultError(f"{whole!r} leads out of the files of its step")
    return path
