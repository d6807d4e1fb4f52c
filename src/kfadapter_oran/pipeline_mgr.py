"""The training manager's own calls, with its names and return types. Needs only the base install."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar, Protocol

from kfadapter_grpc.client import Client
from kfadapter_grpc.client.client import TARGET_VARIABLE
from kfadapter_grpc.client.errors import CannotConnectError, DeadlineError
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_oran import responses
from kfadapter_oran.jobs import ArgumentProfile, start_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kfadapter_grpc.contract.spec import Json

_HOST_VARIABLE, _PORT_VARIABLE = "KF_ADAPTER_IP", "KF_ADAPTER_PORT"
"""The environment variables with the address of the training manager's adapter."""
_lock = threading.Lock()
_clients: dict[tuple[int, str], Client] = {}


@dataclass(frozen=True, slots=True)
class Response:
    """A response with the attributes of the `requests` library that the training manager reads.

    Attributes:
        status_code: The HTTP status of the call.
        body: The content.
    """

    status_code: int
    body: Mapping[str, Json]

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.status_code == HTTPStatus.OK

    @property
    def headers(self) -> dict[str, str]:
        """The headers: the content type."""
        return {"content-type": responses.CONTENT_TYPE}

    @property
    def text(self) -> str:
        """The body as JSON."""
        return json.dumps(self.body, ensure_ascii=False)

    def json(self) -> Mapping[str, Json]:
        """The body."""
        return self.body


class PipelineMgrError(Exception):
    """A call failed; the message has the cause and the remedy."""


class Config(Protocol):
    """The parts of the training manager's configuration that `training_start` reads."""

    @property
    def kf_adapter_ip(self) -> str:
        """The adapter's host."""
        ...

    @property
    def kf_adapter_port(self) -> str | int:
        """The adapter's gRPC port."""
        ...


class PipelineMgr:
    """The training manager's `PipelineMgr`, over gRPC. Safe to use from several threads; it connects on first use.

    Attributes:
        error_class: The exception raised when a call fails; the training manager sets its own `TMException`.
        profile: How the arguments of a training job are converted to those of a run.
    """

    error_class: ClassVar[type[Exception]] = PipelineMgrError
    profile: ClassVar[ArgumentProfile] = ArgumentProfile.FLASK_ADAPTER

    def __init__(self, target: str = "") -> None:
        """Calls the adapter at `target`, `host:port`.

        Defaults to `KFADAPTER_TARGET`, or `KF_ADAPTER_IP` and `KF_ADAPTER_PORT`.
        """
        self._target = target

    def get_all_pipelines(self) -> dict[str, Json]:
        """Lists all pipelines: `pipelines`, each with `display_name`, `pipeline_id`, `description`, `created_at`."""
        with self._raising("list the pipelines"):
            return responses.pipelines_body(self.client.pipelines.list())

    def get_all_pipeline_versions(self, pipeline_name: str) -> dict[str, Json]:
        """Lists the names of all versions of a pipeline: `versions_list`, newest first."""
        with self._raising(f"list the versions of pipeline '{pipeline_name}'"):
            return responses.versions_body(self.client.pipelines.list_versions(pipeline_name))

    def upload_pipeline_file(
        self, pipeline_name: str, filepath: str | os.PathLike[str], description: str | None = None
    ) -> bool:
        """Uploads a file as a new pipeline or as a new version of it; True if the upload succeeded."""
        with self._raising(f"upload pipeline '{pipeline_name}'"):
            self.client.pipelines.upload(filepath, name=pipeline_name, description=description or "")
        return True

    def get_experiments(self) -> dict[str, Json]:
        """Lists the ids of all experiments by name."""
        with self._raising("list the experiments"):
            return responses.experiments_body(self.client.experiments.list())

    def start_training(self, training_details: Mapping[str, Json], trainingjob_name: str | int) -> Response:
        """Starts a run for a training job.

        Args:
            training_details: `pipeline_name`, `experiment_name`, `arguments`; `pipeline_version`, a version's name;
                defaults to the latest version.
            trainingjob_name: The job; stored in KFP as the run's label `trainingjob_id`.

        Returns:
            `run_status` is `scheduled` and `run_id` is the run; or a status other than 200 and a `message`.
        """
        with self._raising(f"start the run of training job '{trainingjob_name}'"):
            return _response(lambda: start_job(self.client, training_details, str(trainingjob_name), self.profile))

    def terminate_training(self, run_id: str) -> Response:
        """Terminates any run; no-op if it has finished or is stopping."""
        with self._raising(f"terminate run '{run_id}'"):
            return _response(lambda: responses.run_body(self.client.runs.terminate(str(run_id))))

    @property
    def client(self) -> Client:
        """The client; tests of the training manager patch it."""
        return _client(self._target)

    @contextmanager
    def _raising(self, action: str) -> Iterator[None]:
        try:
            yield
        except (AdapterError, OSError) as error:
            raise self.error_class(f"cannot {action}: {_describe(error)}") from error


def training_start(training_config_obj: Config, dict_data: Mapping[str, Json], trainingjob_name: str | int) -> Response:
    """Starts a run for a training job, with the adapter of the training manager's configuration.

    Raises:
        ConnectionError: The adapter is unreachable or did not respond in time; that of `requests` if it is loaded, as
            the training manager catches that.
    """
    try:
        return _manager(training_config_obj).start_training(dict_data, trainingjob_name)
    except PipelineMgrError as error:
        requests = sys.modules.get("requests")
        kind = ConnectionError if requests is None else requests.exceptions.ConnectionError
        raise kind(str(error)) from error


def terminate_training(training_config_obj: Config, run_id: str) -> Response:
    """Terminates a run, with the adapter of the training manager's configuration."""
    return _manager(training_config_obj).terminate_training(run_id)


def _response(call: Callable[[], Mapping[str, Json]]) -> Response:
    """Makes a call; a failure is a response, too, unless the adapter could not be called."""
    try:
        return Response(int(HTTPStatus.OK), call())
    except (CannotConnectError, DeadlineError):
        raise
    except AdapterError as error:
        status = responses.http_status(error)
        return Response(status, responses.error_body(status, error.message, error.reason, error.request_id))


def _client(target: str) -> Client:
    """Returns the client for an adapter; if empty, the target is that of the environment.

    There is one client per adapter and process: gRPC does not survive a fork, and the training manager's
    development server forks, so a child gets its own. It connects at the first call.
    """
    if not target and not os.environ.get(TARGET_VARIABLE):
        host, port = os.environ.get(_HOST_VARIABLE), os.environ.get(_PORT_VARIABLE)
        target = f"{host}:{port}" if host and port else ""
    with _lock:
        key = (os.getpid(), target)
        if key not in _clients:
            _clients[key] = Client(target or None)
        return _clients[key]


def _manager(config: Config) -> PipelineMgr:
    return PipelineMgr(f"{config.kf_adapter_ip}:{config.kf_adapter_port}")


def _describe(error: AdapterError | OSError) -> str:
    if isinstance(error, AdapterError):
        return f"{error.message} ({error.reason}, request {error.request_id})"
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)
