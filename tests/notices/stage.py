"""The complete setup: an embedded KFP scripted by the test, an adapter, and notifiers as processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tests.cli.conftest import Kfadapter
from tests.connecting import connect
from tests.contract.running import eventually
from tests.embedded.runs import a_pipeline, try_run
from tests.embedded.serving import serving as serving_embedded

from kfadapter_embedded.document_kinds import RUNS
from kfadapter_embedded.execution import State
from kfadapter_grpc.server import AdapterServer
from kfadapter_grpc.services.runs import RunServicer
from kfadapter_grpc.settings import Settings
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Ended
    from tests.embedded.serving import Serving
    from tests.notices.receiving import Receiving

ROOT = Path(__file__).parents[2]
PROGRAM = (str(Path(sys.executable).parent / "kfadapter"),)
SECONDS = 60
ENDS = {"SUCCEEDED": State.SUCCEEDED, "FAILED": State.FAILED, "CANCELED": State.CANCELED, "SKIPPED": State.SKIPPED}


class Place(Protocol):
    """An environment for notifiers."""

    @property
    def target(self) -> str:
        """The adapter's address."""
        ...

    @property
    def folder(self) -> Path:
        """The folder with the notifiers' files."""
        ...


@dataclass
class Stage:
    """A KFP, and an adapter that can be stopped and restarted.

    Attributes:
        kfp: The KFP.
        target: The adapter's address, whether it is running or not.
        folder: The folder with the notifiers' files.
        behind: By how many seconds KFP's clock is behind.
    """

    kfp: Serving
    target: str
    folder: Path
    behind: list[float]
    _adapter: ExitStack = field(default_factory=ExitStack)
    _pipeline: dict[str, str] = field(default_factory=dict)

    def run(self, job: str | None = "42") -> str:
        """Starts a run, of a training job unless `job` is None; returns its id."""
        self._pipeline = self._pipeline or a_pipeline(self.kfp.caller)
        label = "" if job is None else "kfadapter: " + json.dumps({"trainingjob_id": job}, ensure_ascii=False)
        made = try_run(self.kfp.caller, pipeline_version_reference=self._pipeline, description=label)
        assert made.status == 200, made.text
        self.kfp.executor.start(made["run_id"])
        return str(made["run_id"])

    def end(self, run_id: str, state: str = "SUCCEEDED") -> str:
        """Ends a run; returns its id."""
        if state == "CANCELED":  # the embedded KFP stores this as FAILED, as KFP 2.17 does; others store CANCELED
            with self.kfp.store.writing() as documents:
                run = documents.document(RUNS, run_id)
                assert run
                self.kfp.progress._store_run(documents, run, ENDS[state], "")
        else:
            self.kfp.executor.end(run_id, ENDS[state], "" if state == "SUCCEEDED" else "그럴 수도 있다")
        return run_id

    def retry(self, run_id: str) -> None:
        """Retries a failed run."""
        self.kfp.runs.retry(run_id)
        self.kfp.executor.start(run_id)

    def adapter_comes(self) -> None:
        """Starts the adapter."""
        backend = self._adapter.enter_context(closing(connect(self.kfp.url)))
        watches = self._adapter.enter_context(closing(WatchPoller(backend.runs)))
        settings = Settings.load(config=None, listen=self.target, drain_seconds=0.0, grace_seconds=1.0)
        servicer = RunServicer(backend.runs, watches=watches, logs=backend.run_logs)
        self._adapter.enter_context(AdapterServer(settings, [servicer], lambda: True, watches.drain))

    def adapter_goes(self) -> None:
        """Stops the adapter."""
        self._adapter.close()


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Sets up everything except notifiers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{probe.getsockname()[1]}"
    (folder / "kfp").mkdir()
    behind = [0.0]
    with serving_embedded(folder / "kfp", clock=lambda: time.time() - behind[0]) as kfp:
        made = Stage(kfp, target, folder, behind)
        made.adapter_comes()
        try:
            yield made
        finally:
            made.adapter_goes()


@dataclass
class Notifier:
    """A running notifier.

    Attributes:
        process: Its process.
        log: Its log file.
    """

    process: subprocess.Popen[bytes]
    log: Path

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Returns the log lines of an event."""
        # While the file is being written, the last line may be incomplete.
        whole = self.log.read_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def wait_for(self, event: str) -> dict[str, Any]:
        """Waits until an event was logged; returns its last line."""
        eventually(lambda: self.logged(event) or self.process.poll() is not None, SECONDS)
        assert self.logged(event), self.log.read_text()
        return self.logged(event)[-1]

    def get(self, path: str) -> tuple[int, str]:
        """Requests a page; returns status and body."""
        address = self.wait_for("notifying")["metrics"]
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """Returns the value of a series."""
        lines = self.get("/metrics")[1].splitlines()
        (value,) = [line.rpartition(" ")[2] for line in lines if line.rpartition(" ")[0] == name]
        return float(value)

    def kill(self) -> None:
        """Kills it with SIGKILL."""
        self.process.kill()
        self.process.wait(SECONDS)

    def died(self) -> None:
        """Waits until it has killed itself."""
        assert self.process.wait(SECONDS) == -signal.SIGKILL, self.log.read_text()

    def stop(self) -> int:
        """Stops it with SIGTERM, as Kubernetes does; returns the exit code."""
        self.process.terminate()
        return self.process.wait(SECONDS)


def environment(**more: str) -> dict[str, str]:
    """Returns the environment without the developer's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KFADAPTER_", "TRAININGMGR_"))}
    return {**kept, "KFADAPTER_NOTIFY_LOG_FORMAT": "json", **more}


@contextmanager
def notifying(
    stage: Place, receiver: Receiving | str, *options: str, point: str = "", **variables: str
) -> Iterator[Notifier]:
    """Runs a notifier during the block; with a `point`, one that kills itself there."""
    program = (sys.executable, "-m", "tests.notices.dying", point) if point else PROGRAM
    url = receiver if isinstance(receiver, str) else receiver.url
    number = len(list(stage.folder.glob("*.log")))
    log = stage.folder / f"{number}.log"
    where = ["--outbox", str(outbox(stage)), "--metrics-listen", "127.0.0.1:0"]
    reported = ["--url", url] if url else []
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [*program, "--target", stage.target, "notify", *where, *reported, *options],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            cwd=ROOT,
            env=environment(**variables),
        ) as process,
    ):
        try:
            yield Notifier(process, log)
        finally:
            process.kill()


def outbox(stage: Place) -> Path:
    """Returns the path of the notifiers' outbox."""
    return stage.folder / "state" / "notices.db"


def asked(stage: Place, *options: str) -> Ended:
    """Runs `kfadapter notify` in this process, to list notices or decide on them."""
    return Kfadapter("127.0.0.1:1")("notify", "--outbox", str(outbox(stage)), *options)


def listed(stage: Place) -> list[dict[str, Any]]:
    """Returns the JSON output of `kfadapter notify --list`."""
    done = asked(stage, "--list", "-o", "json")
    assert (done.code, done.err) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.out)
    return found
