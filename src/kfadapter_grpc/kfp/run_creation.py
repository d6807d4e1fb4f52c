"""Starts runs in KFP, once for each request id.

The id of a run is chosen here, and KFP keeps ids unique. With a request id it follows from that, so a repeated call
looks for the run first. After any failed POST we look again, whatever KFP said: the run may have been started by this
call, of which only the answer broke, or by a copy of it in another adapter.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.experiments import DEFAULT_EXPERIMENT, CreateExperimentRequest, ExperimentRef
from kfadapter_grpc.contract.labels import ORIGIN_LABEL, split_labels, with_labels
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
from kfadapter_grpc.contract.runs import MAX_RUN_NAME_BYTES, Run, run_id_for
from kfadapter_grpc.kfp.error_table import Context
from kfadapter_grpc.kfp.inline_spec import origin_text, without_caching
from kfadapter_grpc.kfp.rest import explained
from kfadapter_grpc.kfp.run_inputs import checked_parameters
from kfadapter_grpc.kfp.run_tasks import why_failed
from kfadapter_grpc.kfp.transport import NotSentError
from kfadapter_grpc.kfp.writes import Turns, spare_call

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.pipelines import PipelineVersion
    from kfadapter_grpc.contract.repository import ExperimentRepository
    from kfadapter_grpc.contract.runs import CreateRunRequest
    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.kfp.api import RunApi
    from kfadapter_grpc.kfp.pipelines import Pipelines
    from kfadapter_grpc.kfp.wire.runs import RunJson

_BROKEN = (errors.KfpUnavailableError, errors.KfpTimeoutError)
"""A write that fails like this may have had its effect."""
_NOT_THERE = (
    errors.PipelineNotFoundError,
    errors.VersionNotFoundError,
    errors.ExperimentNotFoundError,
    errors.AmbiguousNameError,
)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A run as it is to be started: everything looked up and checked."""

    run_id: str
    pipeline_id: str
    version_id: str
    experiment_id: str
    display_name: str
    labels: Mapping[str, str]
    parameters: Mapping[str, Json] = field(default_factory=dict)


class RunCreator:
    """Starts runs. Safe to use from many threads."""

    def __init__(self, api: RunApi, pipelines: Pipelines, experiments: ExperimentRepository) -> None:
        self._api = api
        self._pipelines = pipelines
        self._experiments = experiments
        self._turns = Turns()

    def create(self, request: CreateRunRequest, call: Call) -> Run:
        """Starts a run, or finds the one that an earlier call with this request id started."""
        if not request.request_id:
            return self._start(request, str(uuid.uuid4()), call)
        run_id = run_id_for(request.request_id, request.namespace)
        with self._turns.taken((run_id,), call):
            earlier = self._find(run_id, call)
            if earlier is not None:
                run = self._earlier(request, earlier, call)
                if not request.validate_only:
                    return run
            return self._start(request, run_id, call)

    def _start(self, request: CreateRunRequest, run_id: str, call: Call) -> Run:
        plan = self._plan(request, run_id, call)
        if request.validate_only:
            return _as_it_would_be(request, plan)
        body = self._body(request, plan, call)
        try:
            return self._post(request, plan, body, call)
        except (NotSentError, errors.CallCancelledError):
            raise
        except errors.AdapterError as failed:
            return self._started_all_the_same(request, run_id, failed, spare_call(call))

    # --- what is started ----------------------------------------------------------------------------------------

    def _plan(self, request: CreateRunRequest, run_id: str, call: Call) -> _Plan:
        version = self._pipelines.get_version(request.pipeline, request.version, call)
        origin = origin_text(version.pipeline_id, version.pipeline_version_id) if not request.caching else ""
        return _Plan(
            run_id=run_id,
            pipeline_id=version.pipeline_id,
            version_id=version.pipeline_version_id,
            parameters=checked_parameters(version, request.parameters),
            experiment_id=self._experiment_id(request, call),
            display_name=request.display_name or self._display_name(request, version, call),
            labels={**request.labels, ORIGIN_LABEL: origin} if origin else request.labels,
        )

    def _experiment_id(self, request: CreateRunRequest, call: Call) -> str:
        """The experiment's id; empty for KFP's own default, which multi-user servers do not have."""
        if request.experiment is None and not request.namespace:
            return ""
        ref = request.experiment or _default_experiment(request)
        if ref.experiment_id and not request.validate_only:
            return ref.experiment_id  # KFP tells if it is not there
        try:
            return self._experiments.get(ref, call).experiment_id
        except errors.ExperimentNotFoundError:
            if not (request.create_experiment and ref.name):
                raise
        if request.validate_only:
            return ""
        wanted = CreateExperimentRequest(ref.name, allow_existing=True, namespace=ref.namespace)
        return self._experiments.create(wanted, call).experiment_id

    def _display_name(self, request: CreateRunRequest, version: PipelineVersion, call: Call) -> str:
        """The pipeline's name and the time."""
        name = request.pipeline.name
        if not name:
            name = self._pipelines.get(PipelineRef(version.pipeline_id), View.BASIC, call).name
        moment = f" {datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S}"
        room = MAX_RUN_NAME_BYTES - len(moment)
        return name.encode()[:room].decode("utf-8", "ignore") + moment

    def _body(self, request: CreateRunRequest, plan: _Plan, call: Call) -> dict[str, object]:
        reference = {"pipeline_id": plan.pipeline_id, "pipeline_version_id": plan.version_id}
        body: dict[str, object] = {
            "run_id": plan.run_id,
            "display_name": plan.display_name,
            "description": with_labels(request.description, plan.labels),
            "experiment_id": plan.experiment_id,
            "service_account": request.service_account,
            "runtime_config": {"parameters": plan.parameters} if plan.parameters else None,
            "pipeline_version_reference": reference if request.caching else None,
            "pipeline_spec": None if request.caching else self._spec_without_caching(plan, call),
        }
        return {key: value for key, value in body.items() if value}

    def _spec_without_caching(self, plan: _Plan, call: Call) -> dict[str, object]:
        version = self._pipelines.versions.get_full(plan.pipeline_id, plan.version_id, call, _context(plan.run_id))
        return without_caching(bytes(version.pipeline_spec))

    def _post(self, request: CreateRunRequest, plan: _Plan, body: Mapping[str, object], call: Call) -> Run:
        try:
            with explained(_context(plan.run_id)):
                return _told(self._api.create(body, call))
        except errors.ExperimentNotFoundError:
            self._experiments.get(request.experiment or _default_experiment(request), call)
            raise
        except errors.VersionNotFoundError:
            self._pipelines.versions.find(plan.pipeline_id, VersionRef(plan.version_id), call)
            raise

    # --- a run that is there already ----------------------------------------------------------------------------

    def _find(self, run_id: str, call: Call) -> RunJson | None:
        try:
            with explained(_context(run_id)):
                return self._api.get(run_id, call)
        except errors.RunNotFoundError:
            return None

    def _started_all_the_same(
        self, request: CreateRunRequest, run_id: str, failed: errors.AdapterError, spare: Call
    ) -> Run:
        """Looks for the run after a failed POST; raises what failed if it is not there."""
        try:
            found = self._find(run_id, spare)
        except errors.AdapterError:
            found = None
        if found is not None:
            return self._earlier(request, found, spare)
        raise _of_unknown_outcome(failed, request, run_id) if isinstance(failed, _BROKEN) else failed

    def _earlier(self, request: CreateRunRequest, found: RunJson, call: Call) -> Run:
        """The run that this request started before.

        Raises:
            RequestIdReusedError: It was another request.
        """
        different = list(self._differences(request, found, call))
        if different:
            raise _reused(request.request_id, found.run_id, different)
        return _told(found)

    def _differences(self, request: CreateRunRequest, found: RunJson, call: Call) -> Iterator[str]:
        """In what a run differs from a request, as far as KFP keeps it.

        What was chosen for the caller may be another one by now, the latest version for instance, and does not count;
        nor does a name that nothing has any more.
        """
        description, labels = split_labels(found.description)
        origin = labels.pop(ORIGIN_LABEL, "")
        kept = {
            "display_name": (request.display_name, found.display_name),
            "service_account": (request.service_account, found.service_account),
        }
        yield from (name for name, (wanted, is_now) in kept.items() if wanted and wanted != is_now)
        if description != request.description:
            yield "description"
        if labels != dict(request.labels):
            yield "labels"
        if bool(origin) is request.caching:
            yield "caching_enabled"
        if _canonical(found.parameters) != _canonical(request.parameters):
            yield "parameters"
        yield from self._other_places(request, found, call)

    def _other_places(self, request: CreateRunRequest, found: RunJson, call: Call) -> Iterator[str]:
        pipeline_id, version_id = found.origin
        if _is_another(self._pipeline_id(request.pipeline, call), pipeline_id):
            yield "pipeline"
        elif _is_another(self._version_id(pipeline_id, request.version, call), version_id):
            yield "version"
        if _is_another(self._known_experiment_id(request, call), found.experiment_id):
            yield "experiment"

    def _pipeline_id(self, ref: PipelineRef, call: Call) -> str:
        try:
            return self._pipelines.id_of(ref, call)
        except _NOT_THERE:
            return ""

    def _version_id(self, pipeline_id: str, ref: VersionRef, call: Call) -> str:
        try:
            if ref.pipeline_version_id or not ref.name:
                return ref.pipeline_version_id
            return self._pipelines.versions.find(pipeline_id, ref, call).pipeline_version_id
        except _NOT_THERE:
            return ""

    def _known_experiment_id(self, request: CreateRunRequest, call: Call) -> str:
        ref = request.experiment or _default_experiment(request)
        try:
            return ref.experiment_id or self._experiments.get(ref, call).experiment_id
        except _NOT_THERE:
            return ""


def _is_another(wanted: str, found: str) -> bool:
    """Whether an id is another one than wanted; any will do where none is known."""
    return bool(wanted) and wanted.lower() != found.lower()


def _default_experiment(request: CreateRunRequest) -> ExperimentRef:
    return ExperimentRef(name=DEFAULT_EXPERIMENT, namespace=request.namespace)


def _told(run: RunJson) -> Run:
    return run.to_domain(why_failed(run))


def _as_it_would_be(request: CreateRunRequest, plan: _Plan) -> Run:
    return Run(
        run_id=plan.run_id if request.request_id else "",
        display_name=plan.display_name,
        pipeline_id=plan.pipeline_id,
        pipeline_version_id=plan.version_id,
        experiment_id=plan.experiment_id,
        parameters=plan.parameters,
        description=request.description,
        labels=request.labels,
        service_account=request.service_account,
    )


def _canonical(parameters: Mapping[str, Json]) -> str:
    """Parameters as a text that is the same for the same values; 7 and 7.0 are, 1 and true are not."""
    return json.dumps({name: _as_doubles(value) for name, value in parameters.items()}, sort_keys=True)


def _as_doubles(value: Json) -> Json:
    """The same value with every number as a double, which all numbers of JSON are."""
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, list | tuple):
        return [_as_doubles(item) for item in value]
    return {key: _as_doubles(item) for key, item in value.items()} if isinstance(value, dict) else value


def _context(run_id: str) -> Context:
    return Context(subject=f"with id {run_id}", resource=run_id, values={"run_id": run_id})


def _reused(request_id: str, run_id: str, different: list[str]) -> errors.RequestIdReusedError:
    names = ", ".join(different)
    return errors.RequestIdReusedError(
        f"request_id '{request_id}' started another run before ({run_id}; different: {names}); "
        "use a new id for a new run",
        metadata={"request_id": request_id, "run_id": run_id, "different": names},
        resource_name=request_id,
    )


def _of_unknown_outcome(error: errors.AdapterError, request: CreateRunRequest, run_id: str) -> errors.AdapterError:
    advice = (
        "repeat the call with the same request_id" if request.request_id else f"look for {run_id} before you repeat it"
    )
    text = f"{error.message}. Whether the run was started is not known: {advice}"
    return type(error)(text, metadata={**error.metadata, "run_id": run_id}, retry_after=error.retry_after)
