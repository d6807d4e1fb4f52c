"""The folders of attempts: their files, in `places` and `work`, and for a process the `environment`.

What the task left as it was made is used again by a later attempt, since that takes less time.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from .environment import Overlay, make_overlay
from .places import Store, Tree

_ENVIRONMENT = "environment"


class AttemptFolders:
    def __init__(self, store: Store) -> None:
        self._root = store.root
        self._cleaner = ThreadPoolExecutor(1)
        self._made: dict[Path, dict[str, int]] = {}
        self._spare: list[tuple[Path, dict[str, int]]] = []

    def take(self, folder: Path) -> None:
        with suppress(IndexError):
            spare, self._made[folder] = self._spare.pop()
            spare.rename(folder)

    def environment(self, folder: Path) -> Overlay:
        """Returns the environment in the folder of an attempt; raises OSError if it cannot be made."""
        overlay = Overlay(folder / _ENVIRONMENT)
        if not self._made.get(folder):
            make_overlay(overlay.folder)
            self._made[folder] = _state(overlay.folder)
        return overlay

    def give_back(self, folder: Path) -> Future[None]:
        """Removes the files of an attempt, in another thread."""
        return self._cleaner.submit(self._clean, folder)

    @cached_property
    def _emptied(self) -> list[Path]:
        """The folders in which attempts have files, in the folder of an attempt."""
        tree = Tree(Path("places"), "")
        return [tree.work, tree.parameter("any").parent, tree.path(self._root) or tree.folder]

    @cached_property
    def _common(self) -> set[Path]:
        return {each for one in self._emptied for each in (one, *one.parents)}

    def _clean(self, folder: Path) -> None:
        made, spare = self._made.pop(folder, {}), folder.with_name(f"{folder.name}-spare")
        with suppress(OSError):
            if self._is_as_made(folder, made):
                folder.rename(spare)
                self._spare.append((spare, made))
                return
        shutil.rmtree(folder, ignore_errors=True)

    def _is_as_made(self, folder: Path, made: dict[str, int]) -> bool:
        """Empties the folders with the files of the attempt; returns whether all else is as it was made."""
        common = [f"{folder}/{one}" for one in self._common]
        if {os.lstat(one).st_mode for one in common} != {folder.lstat().st_mode}:
            return False  # a link, or what the next attempt may not enter
        for one in self._emptied:
            _empty(folder / one)
        left = sum(len(os.listdir(one)) for one in common)  # noqa: PTH208
        return left == len(common) - 1 + bool(made) and (not made or _state(folder / _ENVIRONMENT) == made)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _state(folder: Path) -> dict[str, int]:
    """When an environment, and each file and folder in it, was changed last."""
    paths = [f"{parent}/{name}" for parent, folders, files in os.walk(folder) for name in (*folders, *files)]
    return {path.removeprefix(str(folder)): os.lstat(path).st_ctime_ns for path in (str(folder), *paths)}
