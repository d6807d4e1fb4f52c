"""The folders for the files of runs, one for each run."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class RunFolders:
    """Folders by run id below `root`; `cache` has links to results in them. Ids, any text, are never used as paths."""

    def __init__(self, root: Path) -> None:
        """Creates the parent folder."""
        root.mkdir(exist_ok=True)
        self.root = root.resolve()
        self.cache = self.root.with_name("cache")
        self.cache.mkdir(exist_ok=True)
        self._lock = threading.Lock()
        self._ending: set[str] = set()

    def path(self, run_id: str) -> Path:
        plain = _PLAIN_NAME.fullmatch(run_id)
        return self.root / (run_id if plain else f"=sha256-{hashlib.sha256(run_id.encode()).hexdigest()}")

    def make(self, run_id: str) -> Path:
        folder = self.path(run_id)
        folder.mkdir(exist_ok=True)
        return folder

    def size(self, run_id: str) -> int:
        """The disk usage of a run's files, in bytes."""
        return sum(_sizes(self.path(run_id)))

    def mark_deleted(self, run_id: str) -> None:
        """Marks a run as being deleted: until `remove`, its processes may still write files."""
        with self._lock:
            self._ending.add(run_id)

    def remove(self, run_id: str) -> None:
        """Removes the folder of a run whose processes have ended, with all its files."""
        shutil.rmtree(self.path(run_id), ignore_errors=True)
        self._prune()
        self.release(run_id)

    def release(self, run_id: str) -> None:
        """Removes the mark of `mark_deleted`: the run is not deleted, or nothing of it is left."""
        with self._lock:
            self._ending.discard(run_id)

    def is_ending(self, run_id: str) -> bool:
        """Whether a run of this id was deleted while its processes are still being terminated."""
        with self._lock:
            return run_id in self._ending

    def remove_others(self, run_ids: set[str]) -> None:
        """Removes the folders of all other runs."""
        known = {self.path(run_id).name for run_id in run_ids}
        for folder in self.root.iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)
        self._prune()

    def _prune(self) -> None:
        """Removes dangling links from the cache."""
        with os.scandir(self.cache) as links:
            for link in links:
                if not os.path.exists(link):  # noqa: PTH110  # a thousand times as often as the rest of this class
                    Path(link).unlink(missing_ok=True)


def _sizes(folder: Path) -> Iterator[int]:
    """The sizes of all files below a folder; files that are removed meanwhile are skipped."""
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(f"{parent}/{name}").st_blocks * 512
            except OSError:
                continue
