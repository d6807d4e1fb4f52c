"""Completes the tasks of a run with inputs and outputs from ML Metadata; a failing store changes nothing else."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.runs import RunSource, RunSources, RunSourceState
from kfadapter_grpc.kfp.mlmd.outputs import with_outputs
from kfadapter_grpc.kfp.mlmd.store import MetadataStore, StoreError, StoreUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.kfp.mlmd.records import RecordedRun
    from kfadapter_grpc.kfp.mlmd.store import StoreSettings
    from kfadapter_grpc.kfp.run_nodes import RunNodes

READ_SECONDS = 2.0
"""The time limit for reading a run from the store."""
REST_SECONDS = 5.0
"""How long a store that did not respond is not called again."""
_AVAILABLE = RunSource(RunSourceState.AVAILABLE)
_OTHER_NAMESPACE = "ML Metadata has a run of this id in another namespace; mlmd_address may be that of another KFP"


class OutputsReader:
    """Reads the outputs of runs. Safe to use from many threads."""

    def __init__(self, settings: StoreSettings | None) -> None:
        """Reads from the store of `settings`, if set."""
        self._store = MetadataStore(settings) if settings else None
        self._rests_until = 0.0
        self._why = ""

    @property
    def has_store(self) -> bool:
        """Whether a store is configured."""
        return self._store is not None

    def close(self) -> None:
        """Closes the connection."""
        if self._store is not None:
            self._store.close()

    def read(self, run_id: str, call: Call) -> RecordedRun | None:
        """Reads the record of a run; None if there is none, or no store.

        The run must have been read from KFP for the caller before: the store itself checks no permissions.

        Raises:
            StoreError: It cannot be read.
        """
        if self._store is None:
            return None
        if time.monotonic() < self._rests_until:
            raise StoreError(self._why)
        with call.within(READ_SECONDS) as part:
            try:
                return self._store.run(run_id, part)
            except StoreUnreachableError as error:
                if not call.cancelled:
                    self._why, self._rests_until = str(error), time.monotonic() + REST_SECONDS
                raise

    def complete(
        self, run_id: str, nodes: RunNodes, call: Call, recorded: Callable[[], RecordedRun | None] | None = None
    ) -> RunNodes:
        """Adds inputs and outputs of tasks, and in `sources` whether they could be read; no-op without a store.

        Args:
            run_id: The run, which must have been read from KFP for the caller before.
            nodes: Its tasks.
            call: The call that they are read for.
            recorded: Returns the result of `read` if reading has already begun.
        """
        before = nodes.sources.outputs if nodes.sources else None
        if self._store is None or not nodes.steps or (before and before.state is RunSourceState.AVAILABLE):
            return nodes
        try:
            found = recorded() if recorded else self.read(run_id, call)
            return _with_source(_with_recorded(run_id, nodes, found), _AVAILABLE)
        except StoreError as error:
            if before and before.state is RunSourceState.NOT_SERVED:
                return nodes  # KFP was upgraded since, and no longer needs a store
            return _with_source(nodes, RunSource(RunSourceState.UNREACHABLE, str(error)))


def _with_recorded(run_id: str, nodes: RunNodes, recorded: RecordedRun | None) -> RunNodes:
    if recorded is None:
        return nodes
    if nodes.namespace and recorded.namespace and nodes.namespace != recorded.namespace:
        raise StoreError(_OTHER_NAMESPACE)
    return with_outputs(run_id, nodes, recorded)


def _with_source(nodes: RunNodes, source: RunSource) -> RunNodes:
    return replace(nodes, sources=replace(nodes.sources or RunSources(), outputs=source))
