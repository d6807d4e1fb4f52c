"""Completes the tasks of a run with inputs and outputs from ML Metadata; a failing store changes nothing else."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.runs import RunSource, RunSources, RunSourceState
from kfadapter_grpc.kfp.mlmd.outputs import with_outputs
from kfadapter_grpc.kfp.mlmd.store import MetadataStore, StoreError, StoreUnreachableError

if TYPE_CHECKING:
    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.kfp.mlmd.store import StoreSettings
    from kfadapter_grpc.kfp.run_nodes import RunNodes

READ_SECONDS = 2.0
"""How long reading a run from the store may take in all."""
REST_SECONDS = 5.0
"""How long a store that did not respond is not called again."""
_AVAILABLE = RunSource(RunSourceState.AVAILABLE)
_OTHER_NAMESPACE = "ML Metadata has a run of this id in another namespace; mlmd_address may be that of another KFP"


class OutputsReader:
    """Reads the outputs of runs. Safe to use from many threads."""

    def __init__(self, settings: StoreSettings | None) -> None:
        """Reads from the store of `settings`, if any."""
        self._store = MetadataStore(settings) if settings else None
        self._rests_until = 0.0
        self._why = ""

    def close(self) -> None:
        """Closes the connection."""
        if self._store is not None:
            self._store.close()

    def complete(self, run_id: str, nodes: RunNodes, call: Call) -> RunNodes:
        """Adds inputs and outputs of tasks, and in `sources` whether they could be read; without a store, nothing.

        The run must have been read from KFP for the caller before: the store itself checks no permissions.
        """
        before = nodes.sources.outputs if nodes.sources else None
        if self._store is None or not nodes.steps or (before and before.state is RunSourceState.AVAILABLE):
            return nodes
        try:
            return _with_source(self._read(self._store, run_id, nodes, call), _AVAILABLE)
        except StoreError as error:
            if before and before.state is RunSourceState.NOT_SERVED:
                return nodes  # KFP was upgraded since, and needs no such store any more
            return _with_source(nodes, RunSource(RunSourceState.UNREACHABLE, str(error)))

    def _read(self, store: MetadataStore, run_id: str, nodes: RunNodes, call: Call) -> RunNodes:
        if time.monotonic() < self._rests_until:
            raise StoreError(self._why)
        with call.within(READ_SECONDS) as part:
            try:
                recorded = store.run(run_id, part)
            except StoreUnreachableError as error:
                if not call.cancelled:
                    self._why, self._rests_until = str(error), time.monotonic() + REST_SECONDS
                raise
        if recorded is None:
            return nodes
        if nodes.namespace and recorded.namespace and nodes.namespace != recorded.namespace:
            raise StoreError(_OTHER_NAMESPACE)
        return with_outputs(run_id, nodes, recorded)


def _with_source(nodes: RunNodes, source: RunSource) -> RunNodes:
    return replace(nodes, sources=replace(nodes.sources or RunSources(), outputs=source))
