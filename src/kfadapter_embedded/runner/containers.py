"""Executes steps in containers, with an engine that has Docker's API, such as Docker or Podman.

The files of a step have the same paths inside the container as outside, and also their paths in a pod: `/minio`,
`/s3`, `/gcs`, `/tmp` and `/kfp-workspace`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import APIError, DockerException, ImageNotFound
from docker.types import LogConfig, Mount
from requests.exceptions import BaseHTTPError, RequestException  # type: ignore[attr-defined]

from kfadapter_embedded.execution import SCRATCH

from .command import Command, Exit, StartError
from .environment import ENGINE_NOTE
from .log import TaskLog

_LABEL = "io.github.kfadapter.run"
_PING_SECONDS = 10
_CALL_SECONDS = 60
_PULL_SECONDS = 600  # without any response
_REPORT_SECONDS = 2.0
# The last two: the address belongs to something else, or to an incompatible engine.
_FAULTS = (DockerException, RequestException, BaseHTTPError, OSError, KeyError, ValueError)


class NoEngineError(Exception):
    """No engine is reachable; the message lists the addresses that were tried."""


@dataclass(frozen=True)
class Engine:
    """A reachable container engine, named for example `Docker 28.2.2`.

    If it is `rootless`, root in its containers is the user that runs the engine.
    """

    url: str
    name: str
    cpus: int
    rootless: bool
    version: str

    def client(self, seconds: int = _CALL_SECONDS) -> docker.APIClient:
        """A client with a timeout per call; waiting for the end of a step has no timeout."""
        return docker.APIClient(self.url, version=self.version, timeout=seconds)


def find_engine(environment: Mapping[str, str]) -> Engine:
    """Finds the engine of `DOCKER_HOST` or `CONTAINER_HOST`, or at a usual address; raises NoEngineError if none."""
    named = environment.get("DOCKER_HOST") or environment.get("CONTAINER_HOST")
    places = [named] if named else [f"unix://{path}" for path in _sockets(environment) if path.is_socket()]
    faults = []
    for place in places:
        try:
            return _reached(place)
        except _FAULTS as fault:
            faults.append(f"{place} does not respond ({_words(fault)})")
    raise NoEngineError("; ".join(faults) or "neither Docker nor Podman was found")


def _sockets(environment: Mapping[str, str]) -> Iterator[Path]:
    home = Path.home()
    own = Path(environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    yield Path("/var/run/docker.sock")
    yield own / "docker.sock"
    for folder in (".docker/run", ".docker/desktop", ".orbstack/run", ".colima/default", ".rd"):
        yield home / folder / "docker.sock"
    yield own / "podman/podman.sock"
    yield Path("/run/podman/podman.sock")


def _reached(url: str) -> Engine:
    client = docker.APIClient(url, version="auto", timeout=_PING_SECONDS)
    with client:
        info, version = client.info(), client.version()
    names = [one.get("Name", "") for one in version.get("Components") or ()]
    name = "Podman" if any("Podman" in one for one in names) else "Docker"
    rootless = any("rootless" in one for one in info.get("SecurityOptions") or ())
    label = f"{name} {version.get('Version', '')}".strip()
    return Engine(url, label, int(info.get("NCPU") or 1), rootless, client.api_version)


class Containers:
    """Runs commands in containers that are labelled with the run's mark; a `Start`."""

    def __init__(self, engine: Engine, folder: Path, mark: str, stopped: threading.Event) -> None:
        self._engine = engine
        self._folder = folder
        self._label = f"{_LABEL}={mark}"
        self._stopped = stopped
        self._pulled: dict[str, threading.Lock] = {}
        self._fresh: set[str] = set()
        self._lock = threading.Lock()
        self._running: set[str] = set()
        threading.Thread(target=self._end_with_run, name="containers", daemon=True).start()

    def __call__(self, command: Command, log: TaskLog) -> Exit:
        """Runs a command to its end in its own container."""
        try:
            self._note_engine()
            self._pull(command, log)
            with self._engine.client() as client:
                return self._run(client, command, log)
        except _FAULTS as fault:
            raise StartError(f"{self._engine.name} could not run image {command.image}: {_words(fault)}") from None

    def _note_engine(self) -> None:
        """Records the engine before any container is created."""
        path = self._folder / SCRATCH / ENGINE_NOTE
        note = {"url": self._engine.url, "version": self._engine.version, "label": self._label}
        with self._lock:
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps(note), encoding="utf-8")

    def _pull(self, command: Command, log: TaskLog) -> None:
        """Pulls an image once for each run, as Kubernetes does for each pod."""
        image = command.image
        policy = command.pull or ("Always" if _tag(image) == "latest" else "IfNotPresent")
        with self._lock:
            lock = self._pulled.setdefault(image, threading.Lock())
        with lock, self._engine.client(_PULL_SECONDS) as client:
            if image in self._fresh or (policy != "Always" and _has(client, image)):
                return
            if policy == "Never":
                raise StartError(f"image {image} is not there, and its pull policy is Never")
            log.note(f"pulls {image}")
            started = time.monotonic()
            try:
                self._report_pull(client, image, log)
            except _FAULTS as fault:
                if not _has(client, image):
                    raise StartError(
                        f"image {image} cannot be pulled: {_words(fault)}. Check its name, and log in with "
                        "`docker login` or `podman login` if its registry requires it"
                    ) from None
                log.note(f"{image} cannot be pulled ({_words(fault)}): uses the one that is here")
            else:
                log.note(f"pulled {image} in {time.monotonic() - started:.0f} s")
            self._fresh.add(image)

    def _report_pull(self, client: docker.APIClient, image: str, log: TaskLog) -> None:
        layers: dict[str, tuple[int, int]] = {}
        due = time.monotonic() + _REPORT_SECONDS
        for line in client.pull(image, stream=True, decode=True):
            if fault := line.get("error"):
                raise DockerException(fault)
            detail = line.get("progressDetail") or {}
            if detail.get("total") and line.get("status") == "Downloading":
                layers[line.get("id", "")] = (detail.get("current", 0), detail["total"])
            if layers and time.monotonic() > due:
                due = time.monotonic() + _REPORT_SECONDS
                got, total = (sum(one) / 1e6 for one in zip(*layers.values(), strict=True))
                log.note(f"pulls {image}: {got:.0f} of {total:.0f} MB")

    def _run(self, client: docker.APIClient, command: Command, log: TaskLog) -> Exit:
        container = self._created(client, command, command.words)
        overdue, started = threading.Timer(command.seconds, self._kill, [container]), time.monotonic()
        try:
            output = client.attach(container, stdout=True, stderr=True, stream=True)
            with self._lock:
                self._running.add(container)
            client.start(container)
            if command.seconds:
                overdue.start()
            if self._stopped.is_set():
                self._terminate(client, container)
            for piece in output:
                log.write(piece)
            code = int(client.wait(container)["StatusCode"])
            state = client.inspect_container(container)["State"]
        finally:
            overdue.cancel()
            with self._lock:
                self._running.discard(container)
            with suppress(*_FAULTS):
                client.remove_container(container, force=True, v=True)
        self._give_files_back(client, command, log)
        if state.get("OOMKilled"):
            limit = f" of {command.limits.memory} bytes" if command.limits.memory else ""
            return Exit(code, f"killed: its memory limit{limit} was reached (exit status {code})")
        is_overdue = command.seconds and time.monotonic() - started >= command.seconds
        return Exit(code, command.overdue if is_overdue else "")

    def _created(self, client: docker.APIClient, command: Command, words: tuple[str, ...], user: str = "") -> str:
        limits = command.limits
        host = client.create_host_config(
            mounts=list(self._mounts(command)),
            nano_cpus=int(min(limits.cpus, self._engine.cpus) * 1e9) or None,
            mem_limit=limits.memory or None,
            memswap_limit=limits.memory or None,
            # Its output is streamed; the engine keeps no copy, which could fill its disk.
            log_config=LogConfig(type="none"),
            # The files of this machine are not relabelled for SELinux.
            security_opt=["label=disable"],
        )
        label, _, mark = self._label.partition("=")
        return str(
            client.create_container(
                command.image,
                entrypoint=[words[0]],
                command=list(words[1:]),
                environment=dict(command.variables),
                labels={label: mark},
                host_config=host,
                user=user or None,
            )["Id"]
        )

    def _mounts(self, command: Command) -> Iterator[Mount]:
        workspace = self._folder / "workspace"
        folders = {str(workspace): workspace, "/kfp-workspace": workspace, **command.tree.mounts}
        # The image may use any user.
        for folder in {workspace, *(Path(parent) for parent, _, _ in os.walk(command.tree.folder))}:
            folder.chmod(0o777)
        for target, folder in folders.items():
            yield Mount(target, str(folder), type="bind")
        for path in dict.fromkeys(command.inputs):
            if not path.is_relative_to(workspace) and path.exists():
                yield Mount(str(path), str(path), type="bind", read_only=True)

    def _give_files_back(self, client: docker.APIClient, command: Command, log: TaskLog) -> None:
        """Makes this user the owner of the files that the step wrote: otherwise they could never be deleted."""
        user = os.getuid()
        if user == 0 or all(os.lstat(path).st_uid == user for path in command.tree.folder.rglob("*")):
            return
        owner = "0:0" if self._engine.rootless else f"{user}:{os.getgid()}"
        words = ("chown", "-R", owner, *command.tree.mounts, str(self._folder / "workspace"))
        helper = self._created(client, command, words, user="0:0")
        try:
            client.start(helper)
            client.wait(helper)
        except _FAULTS as fault:
            log.note(f"its files belong to another user, and cannot be changed: {_words(fault)}")
        finally:
            with suppress(*_FAULTS):
                client.remove_container(helper, force=True, v=True)

    def _end_with_run(self) -> None:
        """Stops the containers when the run is stopped; `remove_containers` kills those that do not stop in time."""
        self._stopped.wait()
        with self._lock:
            running = list(self._running)
        with suppress(*_FAULTS), self._engine.client(_PING_SECONDS) as client:
            for container in running:
                self._terminate(client, container)

    def _kill(self, container: str) -> None:
        with suppress(*_FAULTS), self._engine.client(_PING_SECONDS) as client:
            client.kill(container, "SIGKILL")

    @staticmethod
    def _terminate(client: docker.APIClient, container: str) -> None:
        with suppress(*_FAULTS):
            client.kill(container, "SIGTERM")


def remove_containers(note: Path) -> None:
    """Kills and removes all containers of a run, with the engine recorded in this file, if it is reachable."""
    with suppress(*_FAULTS):
        noted = json.loads(note.read_text("utf-8"))
        with docker.APIClient(noted["url"], version=noted["version"], timeout=_PING_SECONDS) as client:
            for one in client.containers(all=True, filters={"label": noted["label"]}):
                with suppress(*_FAULTS):
                    client.remove_container(one["Id"], force=True, v=True)


def _has(client: docker.APIClient, image: str) -> bool:
    try:
        client.inspect_image(image)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        return False
    return True


def _tag(image: str) -> str:
    """The tag of an image; its digest instead if it has one, `latest` if it has neither."""
    name, _, digest = image.partition("@")
    return digest or name.rpartition("/")[2].partition(":")[2] or "latest"


def _words(fault: Exception) -> str:
    text = fault.explanation if isinstance(fault, APIError) else ""
    return str(text or fault).strip()[:500]


if __name__ == "__main__":  # for `kfadapter doctor`, which imports nothing of this package
    try:
        engine = find_engine(os.environ)
    except NoEngineError as error:
        sys.exit(str(error))
    sys.stdout.write(f"{engine.name} at {engine.url}\n")
