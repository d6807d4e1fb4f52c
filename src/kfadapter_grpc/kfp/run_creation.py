"""Starts runs in KFP, once for each request id.

The id of a run is chosen here, and KFP keeps ids unique. With a request id it is derived from that, so a repeated call
searches for the run first. After any failed POST it is searched for again, whatever KFP reported: the run may have been
started by this call, of which only the response was lost, or by a copy of it in another adapter.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from typing import cast

import msgspec

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.experiments import DEFAULT_EXPERIMENT, CreateExperimentRequest, ExperimentRef
from kfadapter_grpc.contract.labels import ORIGIN_LABEL, split_labels, with_labels
from kfadapter_grpc.contract.parameters import check_parameters
from kfadapter_grpc.contract.pipelines import PipelineVersion, VersionRef
from kfadapter_grpc.contract.runs import MAX_RUN_NAME_BYTES, CreateRunRequest, Run, run_id_for
from kfadapter_grpc.contract.spec import Json, ParameterType, PipelineFormat
from kfadapter_grpc.kfp.error_table import Context
from kfadapter_grpc.kfp.experiments import Experiments
from kfadapter_grpc.kfp.failures import Operation
from kfadapter_grpc.kfp.pipelines import Pipelines
from kfadapter_grpc.kfp.rest import Rest, post
from kfadapter_grpc.kfp.run_json import RunJson, origin_text
from kfadapter_grpc.kfp.run_reader import RUNS, RunReader
from kfadapter_grpc.kfp.transport import NotSentError
from kfadapter_grpc.kfp.writes import UNKNOWN_OUTCOME, KeyLocks, followup_call, of_unknown_outcome

_MISSING = (
    errors.PipelineNotFoundError,
    errors.VersionNotFoundError,
    errors.ExperimentNotFoundError,
    errors.AmbiguousNameError,
)
_PARAMETER_PARTS = ("inputDefinitions", "arguments")
_ROOTS = ("$", "root", "spec")


class RunCreator:
    """Starts runs. Safe to use from many threads."""

    def __init__(self, rest: Rest, reader: RunReader, pipelines: Pipelines, experiments: Experiments) -> None:
        self._rest = rest
        self._reader = reader
        self._pipelines = pipelines
        self._experiments = experiments
        self._locks = KeyLocks()

    def create(self, request: CreateRunRequest, call: Call) -> Run:
        """Starts a run, or finds the one that an earlier call with this request id started."""
        if not request.request_id:
            return self._start(request, str(uuid.uuid4()), call)
        if call.limits is not None:  # the ids that are derived for a namespace are for its callers only
            call.limits.ensure(request.namespace)
        run_id = run_id_for(request.request_id, request.namespace)
        with self._locks.held((run_id,), call):
            earlier = self._find(run_id, call)
            if earlier is not None:
                run = self._checked_earlier(request, earlier, call)
                if not request.validate_only:
                    return run
            return self._start(request, run_id, call)

    def _start(self, request: CreateRunRequest, run_id: str, call: Call) -> Run:
        plan = self._plan(request, run_id, call)
        if request.validate_only:
            return plan if request.request_id else replace(plan, run_id="")
        body = self._body(request, plan, call)
        try:
            return self._post(request, plan, body, call)
        except (NotSentError, errors.CallCancelledError):
            raise
        except errors.AdapterError as failed:
            followup, run = followup_call(call), None
            with suppress(errors.AdapterError):
                run = self._find(run_id, followup)
            if run is not None:
                return self._checked_earlier(request, run, followup)
            if isinstance(failed, UNKNOWN_OUTCOME):
                repeat = "repeat the call with the same request_id"
                advice = repeat if request.request_id else f"check {run_id} before you repeat it"
                raise of_unknown_outcome(failed, "the run was started", advice, run_id=run_id) from failed
            raise

    # --- what is started ----------------------------------------------------------------------------------------

    def _plan(self, request: CreateRunRequest, run_id: str, call: Call) -> Run:
        """Returns the run to start, with everything looked up and checked."""
        version = self._pipelines.get_version(request.pipeline, request.version, call)
        return Run(
            run_id=run_id,
            pipeline_id=version.pipeline_id,
            pipeline_version_id=version.pipeline_version_id,
            parameters=check_values(version, request.parameters),
            experiment_id=self._experiment_id(request, call),
            display_name=request.display_name or self._display_name(request, version.pipeline_id, call),
            description=request.description,
            labels=request.labels,
            service_account=request.service_account,
        )

    def _experiment_id(self, request: CreateRunRequest, call: Call) -> str:
        """The experiment's id; empty for KFP's own default, which multi-user servers do not have."""
        if request.experiment is None and not request.namespace:
            return ""
        ref = _experiment(request)
        if ref.experiment_id and not request.validate_only:
            return ref.experiment_id  # KFP reports if it does not exist
        try:
            return self._experiments.get(ref, call).experiment_id
        except errors.ExperimentNotFoundError:
            if not (request.create_experiment and ref.name):
                raise
        if request.validate_only:
            return ""
        create = CreateExperimentRequest(ref.name, allow_existing=True, namespace=ref.namespace)
        return self._experiments.create(create, call).experiment_id

    def _display_name(self, request: CreateRunRequest, pipeline_id: str, call: Call) -> str:
        moment = f" {datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S}"
        return self._pipelines.name_with(moment, MAX_RUN_NAME_BYTES, request.pipeline, pipeline_id, call)

    def _body(self, request: CreateRunRequest, plan: Run, call: Call) -> dict[str, object]:
        origin = "" if request.caching else origin_text(plan.pipeline_id, plan.pipeline_version_id)
        labels = {**plan.labels, ORIGIN_LABEL: origin} if origin else plan.labels
        body: dict[str, object] = {
            "run_id": plan.run_id,
            "display_name": plan.display_name,
            "description": with_labels(plan.description, labels),
            "experiment_id": plan.experiment_id,
            "service_account": plan.service_account,
            "runtime_config": {"parameters": plan.parameters} if plan.parameters else None,
        }
        if request.caching:
            reference = {"pipeline_id": plan.pipeline_id, "pipeline_version_id": plan.pipeline_version_id}
            body["pipeline_version_reference"] = reference
        else:
            body["pipeline_spec"] = without_caching(
                self._pipelines.versions.spec(plan.pipeline_id, plan.pipeline_version_id, call)
            )
        return {key: value for key, value in body.items() if value}

    def _post(self, request: CreateRunRequest, plan: Run, body: Mapping[str, object], call: Call) -> Run:
        http_request, context = post(RUNS, body), Context.by_id("run_id", plan.run_id)
        try:
            return self._rest.ask(Operation.CREATE_RUN, http_request, RunJson, call, context).record()
        except errors.ExperimentNotFoundError:
            self._experiments.get(_experiment(request), call)
            raise
        except errors.VersionNotFoundError:
            self._pipelines.versions.find(plan.pipeline_id, VersionRef(plan.pipeline_version_id), call)
            raise

    # --- a run that exists already ------------------------------------------------------------------------------

    def _find(self, run_id: str, call: Call) -> RunJson | None:
        try:
            return self._reader.get(run_id, call)
        except errors.RunNotFoundError:
            return None

    def _checked_earlier(self, request: CreateRunRequest, run: RunJson, call: Call) -> Run:
        """The run that this request started before. Raises RequestIdReusedError if another request started it."""
        different = ", ".join(self._differences(request, run, call))
        if different:
            raise errors.RequestIdReusedError(
                f"request_id '{request.request_id}' started another run before ({run.run_id}; different: "
                f"{different}); use a new id for a new run",
                metadata={"request_id": request.request_id, "run_id": run.run_id, "different": different},
                resource_name=request.request_id,
            )
        return run.record()

    def _differences(self, request: CreateRunRequest, run: RunJson, call: Call) -> Iterator[str]:
        """The differences between a run and a request, as far as KFP keeps the fields.

        What was chosen for the caller may be different by now, such as the latest version, and does not count;
        nor does the name of a deleted resource.
        """
        description, labels = split_labels(run.description)
        origin = labels.pop(ORIGIN_LABEL, "")
        differs = {
            "display_name": request.display_name not in {"", run.display_name},
            "service_account": request.service_account not in {"", run.service_account},
            "description": description != request.description,
            "labels": labels != dict(request.labels),
            "caching_enabled": bool(origin) is request.caching,
            "parameters": _canonical(run.parameters) != _canonical(request.parameters),
        }
        yield from (name for name, is_different in differs.items() if is_different)
        pipeline_id, version_id = run.origin
        if _differs(lambda: self._pipelines.id_of(request.pipeline, call), pipeline_id):
            yield "pipeline"
        elif _differs(lambda: self._version_id(pipeline_id, request.version, call), version_id):
            yield "version"
        ref = _experiment(request)
        if _differs(lambda: ref.experiment_id or self._experiments.get(ref, call).experiment_id, run.experiment_id):
            yield "experiment"

    def _version_id(self, pipeline_id: str, ref: VersionRef, call: Call) -> str:
        if ref.pipeline_version_id or not ref.name:
            return ref.pipeline_version_id
        return self._pipelines.versions.find(pipeline_id, ref, call).pipeline_version_id


def _differs(lookup: Callable[[], str], known_id: str) -> bool:
    """Whether an id differs from the found one; never if none is requested, or the resource was deleted."""
    try:
        requested = lookup()
    except _MISSING:
        return False
    return bool(requested) and requested.lower() != known_id.lower()


def _experiment(request: CreateRunRequest) -> ExperimentRef:
    return request.experiment or ExperimentRef(name=DEFAULT_EXPERIMENT, namespace=request.namespace)


def _canonical(parameters: Mapping[str, Json]) -> str:
    """Parameters as text that is the same for equal values; 7 and 7.0 are equal, 1 and true are not."""
    return json.dumps({name: _as_doubles(value) for name, value in parameters.items()}, sort_keys=True)


def _as_doubles(value: Json) -> Json:
    """The same value with every number as a double, like all numbers of JSON."""
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, list | tuple):
        return [_as_doubles(item) for item in value]
    return {key: _as_doubles(item) for key, item in value.items()} if isinstance(value, dict) else value


def without_caching(spec_json: bytes) -> dict[str, object]:
    """A spec in which no task uses earlier results; a wrapper of pipeline and platform spec is kept.

    KFP has no such option for a run: whether results are used is in the spec. So the run gets the version's spec,
    changed, instead of a reference to the version. KFP then does not know what the run was started from; a label does.
    """
    try:
        document = msgspec.json.decode(spec_json, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError) as error:
        raise errors.KfpError("Kubeflow Pipelines served a pipeline spec that is none") from error
    wrapped = document.get("pipeline_spec")
    spec = cast("dict[str, object]", wrapped) if isinstance(wrapped, dict) and "root" not in document else document
    if "root" not in spec:
        text = "caching cannot be switched off for a KFP v1 pipeline (an Argo Workflow); leave caching_enabled out"
        raise errors.UnsupportedByKfpError(text)
    for task in _tasks(spec):
        task["cachingOptions"] = {"enableCache": False}
    return document


def _tasks(spec: dict[str, object]) -> Iterator[dict[str, object]]:
    components = spec.get("components")
    groups = [spec["root"], *(components.values() if isinstance(components, dict) else ())]
    for group in groups:
        dag = group.get("dag") if isinstance(group, dict) else None
        tasks = dag.get("tasks") if isinstance(dag, dict) else None
        yield from (task for task in (tasks.values() if isinstance(tasks, dict) else ()) if isinstance(task, dict))


# --- parameters ---------------------------------------------------------------------------------------------------


def check_values(version: PipelineVersion, values: Mapping[str, Json]) -> Mapping[str, Json]:
    """The values as KFP accepts them, checked as far as the version's spec summary allows."""
    spec = version.spec
    if spec is None:
        return check_parameters((), values, complete=False)
    declared = spec.parameters
    if spec.format is PipelineFormat.ARGO_V1:  # its types are the author's words, and KFP takes strings for all of them
        declared = tuple(replace(parameter, type=ParameterType.UNKNOWN) for parameter in declared)
    # Parameters that could not be read are among the unknown parts.
    lacks = any(part in _ROOTS or any(name in part for name in _PARAMETER_PARTS) for part in spec.unknown_parts)
    return check_parameters(declared, values, complete=not lacks)
