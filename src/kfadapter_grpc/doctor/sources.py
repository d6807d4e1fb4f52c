"""The sources of logs, outputs and artifacts of runs: KFP's route for logs, pods, ML Metadata and object stores."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from http import HTTPStatus
from typing import TYPE_CHECKING

from kfadapter_grpc.auth.reloaded_files import read_small
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import AdapterError, KfpTimeoutError
from kfadapter_grpc.doctor.verdict import Verdict, ok, warning
from kfadapter_grpc.kfp.artifact_stores import read_store_entries
from kfadapter_grpc.kfp.failures import KfpFailureError
from kfadapter_grpc.kfp.log_sources import LogSources, NoLogError, NotServedError, PodLogError, PodLogs
from kfadapter_grpc.kfp.mlmd.store import MetadataStore, StoreError
from kfadapter_grpc.kfp.rest import ListQuery, Rest
from kfadapter_grpc.kfp.run_reader import RunReader
from kfadapter_grpc.kfp.transport import Transport
from kfadapter_grpc.server.kfp import KUBERNETES_SERVICE_ACCOUNT, pod_log_settings, store_settings, transport_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.settings import Settings

ROUTE = "KFP logs"
PODS = "pod logs"
OUTPUTS = "outputs"
STORES = "artifact stores"
_SECONDS = 10.0
_METADATA_SECONDS = 3.0
_MISSING = "kfadapter-doctor"
_ALONE = (
    "the logs of tasks come from Kubeflow Pipelines alone; one that serves a single user has them only when a task has "
    "ended and Argo has archived its log"
)
_NO_OUTPUTS = "inputs, outputs and metrics of runs of KFP 2.5 to 2.17 are not shown"
_NO_BYTES = "artifacts in object stores are listed, but cannot be downloaded"


def examine(settings: Settings) -> Iterator[Verdict]:
    if settings.kfp_credentials != "forward":
        yield from _route(settings)
    yield _pods(settings)
    yield outputs(settings)
    yield from stores(settings)


def _route(settings: Settings) -> Iterator[Verdict]:
    """Requests the log of a run that does not exist: a KFP that serves logs reports just that.

    Other failures of KFP are not examined here.
    """
    call = Call(_MISSING, _SECONDS)
    with closing(Transport(transport_settings(settings))) as transport:
        client = Rest(transport)
        try:
            RunReader(client).list(ListQuery(1), call, namespace=settings.namespace)
        except AdapterError:
            return
        try:
            deque(LogSources(client, None).from_kfp(_MISSING, _MISSING, call), maxlen=0)
        except (NotServedError, KfpFailureError, AdapterError):
            pass
        except NoLogError:
            yield ok(ROUTE, "Kubeflow Pipelines serves the logs of tasks")
            return
    yield warning(
        ROUTE,
        f"/apis/v1alpha1/runs/RUN/nodes/POD/log is not served by Kubeflow Pipelines at {settings.kfp_url}",
        why="a proxy or gateway in front of it does not forward that path, so archived logs cannot be read",
        next_step="set KFADAPTER_KFP_URL to its API server, port 8888 of the service ml-pipeline",
    )


def _pods(settings: Settings) -> Verdict:
    """Requests the log of a pod that does not exist: the response is 404 only with permission to read logs."""
    if settings.pod_logs == "off":
        return ok(PODS, f"switched off: {_ALONE}")
    kubernetes = pod_log_settings(settings)
    if kubernetes is None:
        return ok(PODS, f"not in a pod with a service-account token: {_ALONE}")
    namespace = settings.namespace or _own_namespace()
    with closing(PodLogs(kubernetes)) as logs:
        try:
            next(logs.read(namespace, _MISSING, Call(_MISSING, _SECONDS)), b"")
        except PodLogError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                return _refused(error, namespace)
        except AdapterError as error:
            return _refused(PodLogError(0, error.message), namespace)
    return ok(PODS, f"the logs of running tasks can be read from the pods in '{namespace}'")


def _refused(error: PodLogError, namespace: str) -> Verdict:
    step = "allow connections in the NetworkPolicy to the Kubernetes API, or set KFADAPTER_POD_LOGS=off"
    if error.status == HTTPStatus.FORBIDDEN:
        step = f"grant the adapter's service account get on pods/log in '{namespace}': deploy/components/pod-logs"
    elif error.status:
        step = "check whether the service account and its token are valid, or set KFADAPTER_POD_LOGS=off"
    return warning(PODS, error.why, why=_ALONE, next_step=step)


def _own_namespace() -> str:
    """The namespace of the pod, which is usually also that of a single-user Kubeflow Pipelines."""
    try:
        return (KUBERNETES_SERVICE_ACCOUNT / "namespace").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return "default"


def outputs(settings: Settings) -> Verdict:
    """Whether ML Metadata responds."""
    store = store_settings(settings)
    if store is None:
        return ok(OUTPUTS, f"mlmd_address is unset: {_NO_OUTPUTS}")
    try:
        with closing(MetadataStore(store)) as reading:
            reading.check(Call(_MISSING, _METADATA_SECONDS))
    except (StoreError, OSError) as error:
        step = "check mlmd_address, and whether the NetworkPolicy allows connections to its port"
        return warning(OUTPUTS, str(error), why=_NO_OUTPUTS, next_step=step)
    return ok(OUTPUTS, f"ML Metadata at {store.address} responds")


def stores(settings: Settings) -> Iterator[Verdict]:
    """Requests a missing object in each artifact location, which needs permission to read and list."""
    if settings.artifact_stores is None:
        yield ok(STORES, f"artifact_stores is unset: {_NO_BYTES}")
        return
    from kfadapter_grpc.kfp.object_stores import ObjectSource, ObjectStores  # noqa: PLC0415  loads obstore

    with closing(ObjectStores(settings.artifact_stores)) as clients:
        for place in read_store_entries(read_small(settings.artifact_stores)):
            url = f"{place.scheme}://{place.bucket}/{place.prefix}".rstrip("/")
            key = f"{place.prefix}/{_MISSING}".lstrip("/")
            missing = ObjectSource(clients, place, key, Call(_MISSING, _SECONDS))
            try:
                missing.file("")
                missing.files()
            except AdapterError as error:
                late = f"its store did not respond within {_SECONDS:.0f} s"
                reason = late if isinstance(error, KfpTimeoutError) else error.message
                step = (
                    f"correct it in {settings.artifact_stores}, or allow connections in the NetworkPolicy to the store"
                )
                yield warning(STORES, f"{url}: {reason}", why=_NO_BYTES, next_step=step)
            else:
                yield ok(STORES, f"{url} can be read")
