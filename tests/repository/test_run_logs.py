"""Logs of tasks in front of a KFP that answers as recorded, with and without the Kubernetes API."""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from tests import recorded_runs
from tests.connecting import connect
from tests.recorded_runs import in_v1beta1
from tests.scripted_kfp import ScriptedKfp, answers, head, sends, stalls
from tests.transcripts import DATA

from kfadapter_grpc.contract.call import Authorization, Call
from kfadapter_grpc.contract.errors import (
    AdapterError,
    InvalidFieldError,
    KfpRejectedCredentialsError,
    PermissionDeniedError,
    RunNotFoundError,
    TaskNotFoundError,
    UnsupportedByKfpError,
)
from kfadapter_grpc.contract.run_outputs import RunArtifact
from kfadapter_grpc.contract.runs import LogNote, ReadLogsRequest
from kfadapter_grpc.kfp import logs
from kfadapter_grpc.kfp.artifact_bytes import ArtifactBytes
from kfadapter_grpc.kfp.credentials import ForwardedCredentials
from kfadapter_grpc.kfp.run_nodes import Pod
from kfadapter_grpc.kfp.transport import TransportSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.scripted_kfp import Behaviour

    from kfadapter_grpc.kfp.backend import KfpBackend
    from kfadapter_grpc.kfp.run_nodes import RunNodes

RUN = "78f7331b-0d8a-4c1f-9047-0df3c5efa0a9"
FLAKY = "734c9cb1-aa1c-4fb8-84c3-1bd45b8e00e1"
NODE = "two-parallel-f5bb7-1392867267"
POD = "two-parallel-f5bb7-system-container-impl-1392867267"
ROUTE = f"^/apis/v1alpha1/runs/{RUN}/nodes/{POD}/log$"
ARCHIVE = f"^/apis/v2beta1/runs/{RUN}/nodes/{NODE}/artifacts/main-logs:read$"
POD_LOG = f"^/api/v1/namespaces/kubeflow/pods/{POD}/log"
LOG = '에폭 1\n\n{"level": "info", "message": "학습"}\r\n2026-11-29T10:00:00Z last'.encode()
WAITING = f'container "main" in pod "{POD}" is waiting to start: trying and failing to pull image'
SECONDS = 60.0


def recorded(name: str, stage: str) -> dict[str, object]:
    """The v1beta1 run at a recorded stage."""
    return in_v1beta1(next(one for one in recorded_runs.recorded(name) if one["stage"].startswith(stage)))


def unarchived(run: dict[str, object]) -> dict[str, object]:
    """The same run where Argo archives no logs."""
    return json.loads(json.dumps(run).replace("main-logs", "other"))  # type: ignore[no-any-return]


WORKS = recorded("two_tasks", "one done, one running")
ENDED = recorded("two_tasks", "succeeded")


def run_is(*stages: dict[str, object]) -> list[Behaviour]:
    """Answers with a run as it progresses."""
    return [answers(200, stage) for stage in stages]


def archived(text: bytes) -> Behaviour:
    """The archived file."""
    return answers(200, b'{"data":"' + base64.b64encode(text) + b'"}')


def text(log: bytes) -> Behaviour:
    """A log at KFP's logs route."""
    return answers(200, log, content_type="text/plain; charset=utf-8")


def refused(message: str, before: bytes = b"") -> Behaviour:
    """An error at KFP's logs route, after text perhaps."""
    fields = {"error_message": message, "error_details": message}
    return text(before + json.dumps(fields, separators=(",", ":")).encode())


def refused_as(note: str, recording: str = "logs") -> Behaviour:
    """A recorded error at KFP's logs route, as it would be for this run and pod."""
    steps = json.loads((DATA / "transcripts" / f"{recording}.json").read_text("utf-8"))["steps"]
    step = next(step for step in steps if step["note"].startswith(note))
    _, _, _, _, run_id, _, pod, _ = step["request"]["path"].split("?")[0].split("/")
    message = step["response"]["json"]["error_message"]
    return refused(message.replace(run_id, RUN).replace(pod, POD))


NO_FILE = refused_as("live pod (it is there")


def kubernetes_refuses(status: int, message: str) -> Behaviour:
    """An error in Kubernetes' own format."""
    return answers(status, {"kind": "Status", "status": "Failure", "message": message, "code": status})


@dataclass
class Stage:
    """Stand-ins and a backend in front of them."""

    kfp: ScriptedKfp
    kubernetes: ScriptedKfp
    alone: KfpBackend
    inside: KfpBackend

    def read(self, task: str = "step", *, run_id: str = RUN, inside: bool = False, **how: object) -> bytes:
        """The whole log; a note follows it in brackets."""
        backend = self.inside if inside else self.alone
        call = Call("test", SECONDS)
        request = ReadLogsRequest(run_id, task, **how)  # type: ignore[arg-type]
        with backend.run_logs.read(request, call) as pieces:
            return b"".join(f"[{piece.text}]".encode() if isinstance(piece, LogNote) else piece for piece in pieces)

    def fails(self, kind: type[AdapterError], task: str = "step", **how: object) -> str:
        """The error message of a failed read."""
        with pytest.raises(kind) as caught:
            self.read(task, **how)  # type: ignore[arg-type]
        return caught.value.message

    def asked(self) -> list[str]:
        """The paths that were requested from KFP, without the run's own."""
        return [path for path in self.kfp.paths("GET") if not path.endswith(f"beta1/runs/{RUN}")]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A KFP and a Kubernetes API that the test scripts; pauses between polls are short."""
    monkeypatch.setattr(logs, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(logs, "_MAX_PAUSE_SECONDS", 0.05)
    with contextlib.ExitStack() as stack:
        kfp, kubernetes = stack.enter_context(ScriptedKfp()), stack.enter_context(ScriptedKfp())
        alone = stack.enter_context(contextlib.closing(connect(kfp.url)))
        near = TransportSettings(kubernetes.url)
        inside = stack.enter_context(contextlib.closing(connect(kfp.url, kubernetes=near)))
        yield Stage(kfp, kubernetes, alone, inside)


def of_run(stage: Stage, *stages: dict[str, object], run_id: str = RUN) -> None:
    """Makes KFP serve a run as it progresses."""
    stage.kfp.on("GET", f"/apis/v2beta1/runs/{run_id}$", answers(200, {"run_id": run_id, "state": "RUNNING"}))
    stage.kfp.on("GET", f"/apis/v1beta1/runs/{run_id}$", *run_is(*stages))


# --- sources --------------------------------------------------------------------------------------------------------


def test_archived_log(stage: Stage) -> None:
    """An archived log is returned as the program wrote it, by the node's id, after the run was read."""
    of_run(stage, ENDED)
    stage.kfp.on("GET", ARCHIVE, archived(LOG))
    assert stage.read() == LOG
    assert stage.kfp.paths("GET") == [
        f"/apis/v2beta1/runs/{RUN}",
        f"/apis/v1beta1/runs/{RUN}",
        f"/apis/v2beta1/runs/{RUN}/nodes/{NODE}/artifacts/main-logs:read",
    ]


def test_archived_log_of_a_multi_user_server(stage: Stage) -> None:
    """If KFP denies everyone the file, the log comes from the logs route, by the pod's name."""
    of_run(stage, ENDED)
    stage.kfp.on("GET", ARCHIVE, answers(403, {"error_message": "Failed to authorize the request"}))
    stage.kfp.on("GET", ROUTE, text(b"archived line\n"))
    assert stage.read() == b"archived line\n"
    assert stage.asked()[-1] == f"/apis/v1alpha1/runs/{RUN}/nodes/{POD}/log"


def test_live_log(stage: Stage) -> None:
    """A running task's log comes from KFP's logs route; the archive is not called for it."""
    of_run(stage, WORKS)
    stage.kfp.on("GET", ROUTE, text(LOG))
    assert stage.read() == LOG
    assert stage.asked() == [f"/apis/v1alpha1/runs/{RUN}/nodes/{POD}/log"]


def test_live_log_from_kubernetes(stage: Stage) -> None:
    """Inside the cluster a running task's log comes from its pod, and KFP is called for the run only."""
    of_run(stage, WORKS)
    stage.kubernetes.on("GET", POD_LOG, text(LOG))
    assert stage.read(inside=True) == LOG
    assert stage.kubernetes.paths("GET") == [f"/api/v1/namespaces/kubeflow/pods/{POD}/log?container=main"]
    assert stage.asked() == []


@pytest.mark.parametrize(
    "refusal",
    [
        kubernetes_refuses(403, 'pods "x" is forbidden: User "x" cannot get resource "pods/log"'),
        kubernetes_refuses(404, 'pods "x" not found'),
        answers(500, b"<html>"),
        sends(b"", then_close=True),
    ],
)
def test_kubernetes_refuses(stage: Stage, refusal: Behaviour) -> None:
    """If Kubernetes does not return the log, it is requested from KFP."""
    of_run(stage, WORKS)
    stage.kubernetes.on("GET", POD_LOG, refusal)
    stage.kfp.on("GET", ROUTE, text(LOG))
    assert stage.read(inside=True) == LOG


def test_text_before_an_error(stage: Stage) -> None:
    """What KFP served before it failed is returned, then a note; KFP's error is not."""
    of_run(stage, unarchived(ENDED))
    message = f"BadRequestError: Failed to read logs for run {RUN}: InternalServerError: token too long"
    stage.kfp.on("GET", ROUTE, refused(message, b"before\n"))
    read = stage.read()
    assert read.startswith(b"before\n[the log ends here")
    assert b"token too long" in read
    assert b"error_message" not in read


def test_file_that_is_cut(stage: Stage) -> None:
    """An archived file that KFP truncates is returned up to that point, with a note."""
    of_run(stage, ENDED)
    stage.kfp.on("GET", ARCHIVE, answers(200, b'{"data":"' + base64.b64encode(b"line\n" * 30)))
    read = stage.read()
    assert read.startswith(b"line\n" * 30)
    assert b"cut short" in read


# --- attempts and iterations ------------------------------------------------------------------------------------


def test_attempts(stage: Stage) -> None:
    """Of a retried task the last attempt is read, or the requested one."""
    of_run(stage, recorded("old_retried_good", "succeeded"), run_id=FLAKY)
    stage.kfp.on("GET", "nodes/flaky-retried-350bd-236334627/", archived(b"first"))
    stage.kfp.on("GET", "nodes/flaky-retried-350bd-4061675686/", archived(b"second"))
    assert stage.read(run_id=FLAKY) == b"second"
    assert stage.read(run_id=FLAKY, attempt=2) == b"second"
    assert stage.read(run_id=FLAKY, attempt=1) == b"first"
    assert "has 2 attempts so far" in stage.fails(InvalidFieldError, run_id=FLAKY, attempt=3)


def test_iterations(stage: Stage) -> None:
    """In a loop the iteration selects the log; without it the name is ambiguous, and the candidates are listed."""
    run_id = "3f7808b2-7bb9-4fa9-84da-fd559dc29b73"
    of_run(stage, recorded("loop", "succeeded"), run_id=run_id)
    stage.kfp.on("GET", "nodes/parallel-squares-d0bc8-1009641508/", archived(b"of the second"))
    assert stage.read("square", run_id=run_id, iteration_index=1) == b"of the second"
    assert "for-loop-1[1]/square" in stage.fails(InvalidFieldError, "square", run_id=run_id)
    assert stage.read("for-loop-1[1]/square", run_id=run_id) == b"of the second"
    assert "group of tasks" in stage.fails(TaskNotFoundError, "for-loop-1", run_id=run_id)


def test_names_in_errors(stage: Stage) -> None:
    """An error names the task as all lists of tasks do, so that the name can be used again."""
    run_id = "d17d4469-58d5-4dbf-81ae-4d0fd7179f88"
    of_run(stage, unarchived(recorded("exit_handler", "failed")), run_id=run_id)
    stage.kfp.on("GET", "/v1alpha1/", refused(f"BadRequestError: Failed to read logs for run {run_id}: x"))
    assert "task 'guarded' of run" in stage.fails(TaskNotFoundError, "exit-handler-1", run_id=run_id)
    assert "task 'guarded/boom' of run" in stage.fails(UnsupportedByKfpError, "boom", run_id=run_id)


# --- missing logs -------------------------------------------------------------------------------------------------


def test_no_right(stage: Stage) -> None:
    """Without access to a run none of its logs is read: KFP does not check access to logs, so it is not called."""
    stage.kfp.on("GET", "/apis/v2beta1/runs/", answers(403, {"code": 7, "message": "no access to namespace team-a"}))
    stage.fails(KfpRejectedCredentialsError)
    with contextlib.closing(connect(stage.kfp.url, credentials=ForwardedCredentials())) as backend:
        call = Call("test", SECONDS, Authorization("Bearer of the caller"))
        with pytest.raises(PermissionDeniedError), backend.run_logs.read(ReadLogsRequest(RUN, "step"), call):
            pass
    assert stage.kfp.requests[-1].headers["authorization"] == "Bearer of the caller"
    assert stage.asked() == []


def test_deleted_run(stage: Stage) -> None:
    """A deleted run, also one that was deleted meanwhile, is reported as not found."""
    gone = answers(404, {"code": 5, "message": f"ResourceNotFoundError: Run {RUN} not found"})
    stage.kfp.on("GET", "/apis/v2beta1/runs/", answers(200, {"run_id": RUN}), gone)
    stage.kfp.on("GET", "/apis/v1beta1/runs/", answers(200, unarchived(ENDED)))
    stage.kfp.on("GET", ROUTE, refused_as("of a deleted run"))
    assert RUN in stage.fails(RunNotFoundError)
    assert RUN in stage.fails(RunNotFoundError)


def test_running_without_live_logs(stage: Stage) -> None:
    """A single-user KFP has no log of a running task; the answer has the command that prints it."""
    of_run(stage, WORKS)
    stage.kfp.on("GET", ROUTE, NO_FILE)
    message = stage.fails(UnsupportedByKfpError)
    assert f"`kubectl logs -n kubeflow {POD} -c main`" in message
    assert "the task runs" in message


def test_no_archive(stage: Stage) -> None:
    """For a log that was never archived the error says how to enable the archive."""
    of_run(stage, unarchived(ENDED))
    stage.kfp.on("GET", ROUTE, NO_FILE)
    message = stage.fails(UnsupportedByKfpError)
    assert "archiveLogs: true" in message
    assert f"kubectl logs -n kubeflow {POD} -c main" in message


def test_pod_gone(stage: Stage) -> None:
    """If the pod was deleted, too, no command is suggested that cannot work."""
    of_run(stage, unarchived(ENDED))
    stage.kfp.on("GET", ROUTE, NO_FILE)
    stage.kubernetes.on("GET", POD_LOG, kubernetes_refuses(404, f'pods "{POD}" not found'))
    message = stage.fails(UnsupportedByKfpError, inside=True)
    assert "its pod was deleted" in message
    assert "archiveLogs: true" in message
    assert "kubectl" not in message


def test_stored_log(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A log that is no longer in an archive is read where KFP's launcher stored it, if it exists there."""
    of_run(stage, unarchived(ENDED))
    stage.kfp.on("GET", ROUTE, NO_FILE)
    stored = RunArtifact("system.Artifact", (tmp_path / "executor-logs-0").as_uri(), artifact_id="7", run_id=RUN)
    run_logs = stage.alone.run_logs
    read = run_logs._reader.read

    def with_stored(run_id: str, call: Call, *, for_logs: bool = False) -> tuple[object, RunNodes]:
        run, nodes = read(run_id, call, for_logs=for_logs)
        return run, replace(nodes, stored_logs=lambda _: (stored,))

    monkeypatch.setattr(run_logs._reader, "read", with_stored)
    monkeypatch.setattr(run_logs, "_bytes", ArtifactBytes(folder=tmp_path))
    assert "archiveLogs: true" in stage.fails(UnsupportedByKfpError)
    (tmp_path / "executor-logs-0").write_bytes("한 줄\n".encode())
    assert stage.read() == stage.read(follow=True) == "한 줄\n".encode()


def test_file_gone(stage: Stage) -> None:
    """An archived log whose file was deleted is distinguished from one that was never archived."""
    of_run(stage, ENDED)
    stage.kfp.on("GET", ARCHIVE, answers(404, {"error_message": "artifact not found: <nil>"}))
    stage.kfp.on("GET", ROUTE, refused_as("ended, its file is not in the object store"))
    assert "cannot be read from the object store" in stage.fails(UnsupportedByKfpError)


def test_container_waits(stage: Stage) -> None:
    """A waiting container has not started; Kubernetes, or else Argo, reports the reason."""
    of_run(stage, WORKS)
    stage.kfp.on("GET", ROUTE, refused_as("live pod whose image cannot be pulled", "logs_multi_user"))
    stage.kubernetes.on("GET", POD_LOG, kubernetes_refuses(400, WAITING))
    assert "trying and failing to pull image" in stage.fails(TaskNotFoundError, inside=True)


def test_kfp_says_that_a_container_waits(stage: Stage) -> None:
    """A KFP without an archive passes on Kubernetes' reason for a waiting container."""
    of_run(stage, WORKS)
    failed = f"InternalServerError: Failed to read logs from pod {POD} due to error opening log stream: {WAITING}"
    stage.kfp.on("GET", ROUTE, refused(f"BadRequestError: Failed to read logs for run {RUN}: {failed}"))
    assert "trying and failing to pull image" in stage.fails(TaskNotFoundError)


def test_image_that_cannot_be_pulled(stage: Stage) -> None:
    """Without the Kubernetes API, Argo's message is the reason for a waiting task."""
    run, run_id = recorded("image_pull", "ImagePullBackOff"), "8ee73a4a-3b65-448f-b209-bda4167daeb5"
    of_run(stage, run, run_id=run_id)
    stage.kfp.on("GET", "/v1alpha1/", refused(f"BadRequestError: Failed to read logs for run {run_id}: x"))
    assert "ImagePullBackOff" in stage.fails(TaskNotFoundError, "say", run_id=run_id)


def test_cached_task(stage: Stage) -> None:
    """A task whose result came from the cache has no log, and the error says why."""
    run, run_id = recorded("cached", "succeeded"), "7a356155-f1be-40f7-8639-8aa2609bc3ce"
    of_run(stage, run, run_id=run_id)
    assert "cache" in stage.fails(TaskNotFoundError, "greet", run_id=run_id)


# --- following ----------------------------------------------------------------------------------------------------


def test_following_without_live_logs(stage: Stage) -> None:
    """If nothing is served before the log is archived, a follow waits for the archive and sends the log once."""
    of_run(stage, WORKS, WORKS, WORKS, ENDED)
    stage.kfp.on("GET", ROUTE, NO_FILE)
    stage.kfp.on("GET", ARCHIVE, archived(LOG))
    assert stage.read(follow=True) == LOG


def test_following_on_a_multi_user_server(stage: Stage) -> None:
    """KFP's logs route is read again until the task has finished; each byte is sent once."""
    of_run(stage, WORKS, WORKS, WORKS, unarchived(ENDED))
    stage.kfp.on("GET", ROUTE, NO_FILE, text(LOG[:9]), text(LOG[:9]), text(LOG))
    assert stage.read(follow=True) == LOG


def test_following_a_pod(stage: Stage) -> None:
    """Inside the cluster the pod's log is followed; the archive then has nothing new."""
    of_run(stage, WORKS, ENDED)
    stage.kubernetes.on("GET", f"{POD_LOG}.*follow=true", text(LOG))
    stage.kfp.on("GET", ARCHIVE, archived(LOG))
    assert stage.read(follow=True, inside=True) == LOG


def test_pod_that_ends_early(stage: Stage) -> None:
    """If a live log ends early, the rest comes from the archive, after what was sent."""
    of_run(stage, WORKS, ENDED)
    stage.kubernetes.on("GET", POD_LOG, text(LOG[:11]))
    stage.kfp.on("GET", ARCHIVE, archived(LOG))
    assert stage.read(follow=True, inside=True) == LOG


def test_connection_that_breaks(stage: Stage) -> None:
    """A live log whose connection breaks is resumed after what was sent."""
    of_run(stage, WORKS, WORKS, unarchived(ENDED))
    broken = sends(head(200, {"Content-Length": "1000", "Content-Type": "text/plain"}) + LOG[:20], then_close=True)
    stage.kubernetes.on("GET", POD_LOG, broken, text(LOG))
    assert stage.read(follow=True, inside=True) == LOG


def test_pod_that_ends_early_without_archive(stage: Stage) -> None:
    """Without an archive the stream ends with a note that says so."""
    of_run(stage, WORKS, unarchived(ENDED))
    stage.kubernetes.on("GET", POD_LOG, text(LOG[:11]), kubernetes_refuses(404, f'pods "{POD}" not found'))
    stage.kfp.on("GET", ROUTE, NO_FILE)
    read = stage.read(follow=True, inside=True)
    assert read.startswith(LOG[:11] + b"[the log was read while the task ran, and ends here")


def test_archive_that_differs(stage: Stage) -> None:
    """A log that does not begin with what was sent is not appended to it."""
    of_run(stage, WORKS, ENDED)
    stage.kfp.on("GET", ROUTE, text(LOG[:30]), text(b"rewritten\n"))
    stage.kfp.on("GET", ARCHIVE, archived(b"x" * 100))
    read = stage.read(follow=True)
    assert read.startswith(LOG[:30] + b"[")
    assert b"rewritten" not in read


def test_following_attempts(stage: Stage) -> None:
    """A follow continues with the next attempt until the task has finished; a requested attempt is followed alone."""
    failed = recorded("old_retried_good", "first attempt failed")
    running = recorded("old_retried_good", "second attempt running")
    good = recorded("old_retried_good", "succeeded")
    of_run(stage, failed, failed, failed, running, good, run_id=FLAKY)
    stage.kfp.on("GET", "nodes/flaky-retried-350bd-236334627/", archived(b"first\n"))
    stage.kfp.on("GET", "nodes/flaky-retried-350bd-4061675686/", archived(b"second\n"))
    stage.kfp.on("GET", "/log$", text(b""))
    assert stage.read(run_id=FLAKY, follow=True) == b"first\nsecond\n"
    assert stage.read(run_id=FLAKY, follow=True, attempt=1) == b"first\n"


def test_run_that_has_ended(stage: Stage) -> None:
    """A follow ends with the run, even if the pod's node is still reported as running."""
    ended = answers(200, {"run_id": RUN, "state": "FAILED"})
    stage.kfp.on("GET", f"/apis/v2beta1/runs/{RUN}$", answers(200, {"run_id": RUN, "state": "RUNNING"}), ended)
    stage.kfp.on("GET", f"/apis/v1beta1/runs/{RUN}$", answers(200, WORKS))
    stage.kfp.on("GET", ROUTE, text(LOG))
    assert stage.read(follow=True) == LOG


def test_outage_while_following(stage: Stage) -> None:
    """A short outage of KFP does not end a follow."""
    behaviours = [answers(200, WORKS), *[sends(b"", then_close=True)] * 3, answers(200, unarchived(ENDED))]
    stage.kfp.on("GET", f"/apis/v2beta1/runs/{RUN}$", answers(200, {"run_id": RUN}))
    stage.kfp.on("GET", f"/apis/v1beta1/runs/{RUN}$", *behaviours)
    stage.kfp.on("GET", ROUTE, text(LOG[:5]), sends(b"", then_close=True), text(LOG))
    assert stage.read(follow=True) == LOG


# --- tails --------------------------------------------------------------------------------------------------------


def test_tails(stage: Stage) -> None:
    """The last 20 lines of several logs are read at once; a log that fails, or is not read in time, is omitted."""
    lines = "".join(f"줄 {number}\n" for number in range(1000)).encode()
    stage.kfp.on("GET", "nodes/a/artifacts/main-logs:read", archived(lines))
    stage.kfp.on("GET", "nodes/pod-b/log", text(b"one\ntwo"))
    stage.kfp.on("GET", "nodes/pod-c/log", NO_FILE)
    stage.kfp.on("GET", "nodes/pod-d/log", stalls(head(200, {"Content-Length": "100"}) + b"half"))
    pods = {
        "a": Pod("a", "pod-a", is_over=True, artifacts=frozenset({"main-logs"})),
        "b": Pod("b", "pod-b", is_over=True),
        "c": Pod("c", "pod-c", is_over=True),
        "d": Pod("d", "pod-d", is_over=True),
    }
    tails = stage.alone.run_logs.tails(RUN, pods, Call("test", SECONDS))
    assert tails == {"a": "\n".join(f"줄 {number}" for number in range(980, 1000)), "b": "one\ntwo"}
