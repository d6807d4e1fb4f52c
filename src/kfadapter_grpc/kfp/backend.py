"""Connects to one KFP."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import AdapterError, KfpRejectedCredentialsError
from kfadapter_grpc.kfp.artifact_bytes import ArtifactBytes
from kfadapter_grpc.kfp.artifacts import Artifacts
from kfadapter_grpc.kfp.experiments import Experiments
from kfadapter_grpc.kfp.failures import Operation
from kfadapter_grpc.kfp.log_sources import PodLogs
from kfadapter_grpc.kfp.logs import RunLogs
from kfadapter_grpc.kfp.mlmd.store import OutputsReader, StoreSettings
from kfadapter_grpc.kfp.pipelines import Pipelines
from kfadapter_grpc.kfp.recurring_runs import RecurringRuns
from kfadapter_grpc.kfp.rest import V2, Rest
from kfadapter_grpc.kfp.run_reader import RunReader
from kfadapter_grpc.kfp.runs import Runs
from kfadapter_grpc.kfp.transport import Request, Transport, TransportSettings
from kfadapter_grpc.spool import SpoolPlace

_PROBE_SECONDS = 3.0


class KfpBackend:
    """One KFP. Constructing it makes no network call; `version` is what KFP reported to the last health check."""

    def __init__(
        self,
        settings: TransportSettings,
        place: SpoolPlace,
        kubernetes: TransportSettings | None = None,
        artifact_bytes: ArtifactBytes | None = None,
        mlmd: StoreSettings | None = None,
    ) -> None:
        """Calls the KFP of `settings`, and spools downloads in `place`.

        Pod logs come from the Kubernetes API of `kubernetes`, if set, outputs of tasks from ML Metadata at `mlmd`;
        without `artifact_bytes`, the bytes of artifacts cannot be read.
        """
        self.version = ""
        self._transport = Transport(settings)
        self._asks_as_callers = settings.as_callers
        self._rest = rest = Rest(self._transport)
        self.pipelines = Pipelines(rest, place)
        self.experiments = Experiments(rest)
        self._outputs = OutputsReader(mlmd)
        self._reader = reader = RunReader(rest, self._outputs)
        self._pod_logs = PodLogs(kubernetes) if kubernetes else None
        self.artifact_bytes = artifact_bytes or ArtifactBytes()
        self.run_logs = RunLogs(rest, reader, self._pod_logs, self.artifact_bytes)
        self.runs = Runs(
            rest,
            reader,
            logs=self.run_logs,
            pipelines=self.pipelines,
            experiments=self.experiments,
        )
        self.artifacts = Artifacts(self.runs)
        self.recurring_runs = RecurringRuns(rest, self.pipelines, self.experiments)

    def is_alive(self) -> bool:
        """Checks KFP's health; waits for at most 3 s. Raises KfpRejectedCredentialsError for the adapter's own ones.

        Where only callers have credentials, a server that requires authentication counts as healthy.
        """
        request, call = Request("GET", f"{V2}/healthz", public=True), Call(f"probe-{uuid.uuid4().hex}", _PROBE_SECONDS)
        try:
            self.version = version_of(self._rest.ask(Operation.HEALTH, request, dict[str, object], call))
        except KfpRejectedCredentialsError:
            if not self._asks_as_callers:
                raise
        except AdapterError:
            return False
        return True

    def close(self) -> None:
        self.artifacts.close()
        self.artifact_bytes.close()
        self.run_logs.close()
        self._reader.close()
        if self._pod_logs is not None:
            self._pod_logs.close()
        self._outputs.close()
        self._transport.close()


def version_of(health: Mapping[str, object]) -> str:
    """The tag in a health check, if the deployer set one; else what it shows: 2.5 does not name its pipeline store."""
    tag = health.get("tag_name")
    if isinstance(tag, str) and tag not in ("", "unknown"):
        return tag
    is_newer = health.get("pipeline_store") is not None
    return "newer than 2.5 (version unknown)" if is_newer else "about 2.5 (by its responses)"
