"""The results of a run's tasks, kept in a file: a retried run continues from there."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from kfadapter_embedded.execution import State

from .outcome import Outcome
from .values import RuntimeArtifact, Values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kfadapter_embedded.execution import TaskReport

    from .dag import Leaf
    from .spec import Component, Task
    from .warned import TaskWarnings


class Kept:
    """Executes tasks, a `Leaf`, unless they have succeeded already."""

    def __init__(self, leaf: Leaf, path: Path) -> None:
        self._leaf = leaf
        self._path = path
        self._before = dict(_read(path))
        self._lock = threading.Lock()

    def __call__(
        self, begun: TaskReport, task: Task, component: Component, values: Values, warnings: TaskWarnings
    ) -> Outcome:
        """Executes a task, or returns what it has given."""
        if found := self._before.get(begun.name):
            return found
        outcome = self._leaf(begun, task, component, values, warnings)
        if outcome.state is State.SUCCEEDED:
            artifacts = {name: [vars(one) for one in several] for name, several in outcome.values.artifacts.items()}
            line = {"task": begun.name, "attempts": outcome.attempts, "artifacts": artifacts}
            # On a full disk the task is executed again by a retry, and nothing else is lost.
            with self._lock, suppress(OSError), self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**line, "parameters": dict(outcome.values.parameters)}) + "\n")
        return outcome


def _read(path: Path) -> Iterator[tuple[str, Outcome]]:
    with suppress(FileNotFoundError), path.open(encoding="utf-8") as file:
        for line in file:
            # The last one may be cut off.
            with suppress(ValueError):
                kept = json.loads(line)
                artifacts = {
                    name: tuple(RuntimeArtifact(**{**one, "records": tuple(one["records"])}) for one in several)
                    for name, several in kept["artifacts"].items()
                }
                values = Values(kept["parameters"], artifacts)
                yield kept["task"], Outcome(State.SUCCEEDED, values=values, attempts=kept["attempts"])
