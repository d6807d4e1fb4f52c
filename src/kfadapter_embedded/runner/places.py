"""Where artifacts are: KFP's URIs, the files that a step sees under them, and what is kept of a run.

In KFP each step is a pod of its own: its inputs are downloaded for it alone, and what it wrote is uploaded when it has
ended well. So each attempt has a tree of files of its own here, with copies of its inputs, which it may change.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .values import ValueFaultError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_ROOT = "minio://mlpipeline/v2/artifacts"
"""KFP's root of all pipelines (`config/env.go:DefaultPipelineRoot`)."""
STORES = ("minio://", "s3://", "gs://")
"""The stores that KFP downloads from and uploads to."""
IMAGES = "oci://"
"""Artifacts that are images."""
_FOLDERS = {"minio://": "minio", "s3://": "s3", "gs://": "gcs"}
_TEMPORARY = "tmp"
_PARAMETERS = "tmp/kfp/outputs"
_PIECE = 1 << 30


@dataclass(frozen=True)
class Tree:
    """The files of an attempt, as KFP's launcher lays them out in a pod.

    Attributes:
        folder: Where they are.
        seen: What the step takes for this folder: itself, or the root, which is empty here.
    """

    folder: Path
    seen: str

    def path(self, uri: str) -> Path | None:
        """Where the step finds the artifact of a URI (`component/launcher_v2.go:LocalPathForURI`); None for others."""
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
        """Where a path that the step names is; a relative one is in the folder that it works in."""
        return self.work / shown if self.seen else self.folder / shown.lstrip("/")

    @property
    def work(self) -> Path:
        """The folder that a step works in which is a process."""
        return self.folder.with_name("work")

    @property
    def mounts(self) -> dict[str, Path]:
        """What a container has where: the tree, and the parts of it at their places in a pod; they exist."""
        parts = {f"/{name}": self.folder / name for name in (*_FOLDERS.values(), _TEMPORARY)}
        for folder in parts.values():
            folder.mkdir(parents=True, exist_ok=True)
        return {str(self.folder): self.folder, **parts}


@dataclass(frozen=True)
class Store:
    """What is kept of a run's artifacts.

    Attributes:
        folder: Where.
        root: The beginning of their URIs.
    """

    folder: Path
    root: str

    def path(self, uri: str) -> Path:
        """Where the artifact of a URI is kept; raises ValueFaultError with the text of KFP's `KeyFromURI`."""
        if not uri.startswith(self.root):
            raise ValueFaultError(f'URI "{uri}" does not have expected bucket prefix "{self.root}"')
        if not (key := uri[len(self.root) :].lstrip("/")):
            raise ValueFaultError(f'URI "{uri}" has empty key given prefixed bucket "{self.root}"')
        return self.folder / _inside(uri, key)


def root_of(given: str, pipeline: str, run_id: str) -> str:
    """The root of a run's artifacts: under the given one if that is in a store, as KFP's driver makes it."""
    base = given.partition("?")[0].rstrip("/") if given.startswith(STORES) else DEFAULT_ROOT
    return f"{base}/{pipeline}/{run_id}"


def transfer(source: Path, target: Path, *, move: bool = False) -> None:
    """Copies or moves a file, or the files of a folder, if there are any.

    As between KFP's launcher and an object store: a folder without files is nothing, and a link is what it leads to.

    Raises:
        ValueFaultError: there is something that cannot be stored.
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
    """Copies a file; where the file system can, both share their blocks until one of them is changed."""
    with source.open("rb", buffering=0) as given, target.open("wb", buffering=0) as made:
        with suppress(AttributeError, OSError):  # not on macOS, nor between all file systems
            while os.copy_file_range(given.fileno(), made.fileno(), _PIECE):
                pass
        shutil.copyfileobj(given, made, 1 << 20)


def _inside(whole: str, path: str) -> str:
    """A path that leads nowhere else."""
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueFaultError(f"{whole!r} leads out of the files of its step")
    return path
