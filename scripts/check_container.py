"""Runs a built image without an engine; called by scripts/check-container, in namespaces that end with it.

Its root is a folder, its command runs as its user, and only its volumes are writable, as in deploy/.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from scripts import manifests

from kfadapter_embedded.process import launch
from kfadapter_grpc.client import Client, HealthStatus, RunState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 60
USAGE = 2
PADDING = b"# " + b"x" * 97 + b"\n"
"""A line of YAML that means nothing; enough of them make an upload that does not stay in memory."""

PROBE = """
import importlib.util, os, pathlib, shutil, sys

volumes = sys.argv[1:]
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
assert os.getuid() > 0 and os.getgid() > 0 and not set(os.getgroups()) - {os.getgid()}, "not an unprivileged user"
assert int(status["CapEff"], 16) == 0 and status["NoNewPrivs"] == "1", "it has privileges"
tools = [name for name in ("gcc", "cc", "g++", "clang", "ld", "as", "make", "curl", "wget") if shutil.which(name)]
assert not tools, f"tools of a build in the image: {tools}"
modules = ("kfp", "pip", "setuptools", "wheel", "hatchling", "grpc_tools", "pytest")
found = [name for name in modules if importlib.util.find_spec(name)]
assert not found, f"packages that are not needed there: {found}"
written = []
for folder, folders, _ in os.walk("/"):
    folders[:] = [name for name in folders if not os.path.ismount(os.path.join(folder, name)) or name != "proc"]
    try:
        pathlib.Path(folder, "probe").touch()
    except OSError:
        continue
    pathlib.Path(folder, "probe").unlink()
    written.append(folder)
assert sorted(written) == sorted(volumes), f"can be written to: {written}; declared: {volumes}"
left = [name for volume in volumes for name in os.listdir(volume)]
assert not left, f"left behind: {left}"
"""
"""Runs inside, as the container's user."""
NOTIFIER = """
import pathlib, re, shutil, subprocess, sys, urllib.request

folder = pathlib.Path(sys.argv[1], "notify")
options = ["--url", "http://127.0.0.1:9/", "--outbox", str(folder / "notices.db"), "--metrics-listen", "127.0.0.1:0"]
process = subprocess.Popen(["kfadapter", "notify", *options, "--log-format", "json"], stderr=subprocess.PIPE, text=True)
address = next(found[1] for line in process.stderr if (found := re.search(r'"metrics": "([0-9.:]+)"', line)))
assert urllib.request.urlopen(f"http://{address}/healthz", timeout=20).status == 200
process.terminate()
assert process.wait(20) == 0, "the notifier does not end as it should"
shutil.rmtree(folder)
"""
"""Runs a notifier inside, for a moment."""


class CheckError(Exception):
    """The container fails a check; the message has the reason."""


class Image:
    """The built image: its configuration, and its root, where only the volumes are writable."""

    def __init__(self, root: Path, inspected: Path, mounts: Sequence[str]) -> None:
        config = json.loads(inspected.read_text())["Docker"]["config"]
        self.environment = dict(line.split("=", 1) for line in config["Env"])
        self.command: list[str] = [*config["Entrypoint"], *config["Cmd"]]
        self.health: list[str] = config["Healthcheck"]["Test"][1:]
        self.stop_signal = signal.Signals[config["StopSignal"]]
        self.volumes = sorted(config["Volumes"])
        self.ports = sorted((port.partition("/")[0] for port in config["ExposedPorts"]), key=int, reverse=True)
        user, _, group = config["User"].partition(":")
        if not (user.isdigit() and int(user) and group.isdigit() and int(group)):
            raise CheckError("USER must be the numbers of a user and a group that are not root")
        folders = "/usr/sbin:/usr/bin:/sbin:/bin"
        setpriv, chroot = (shutil.which(name, path=folders) or name for name in ("setpriv", "chroot"))
        self._enter = [setpriv, "--no-new-privs", "--inh-caps=-all"]
        self._enter += [chroot, "--groups=", f"--userspec={user}:{group}", str(root)]
        _close(root, [*self.volumes, *mounts])

    def start(self, variables: Mapping[str, str], *command: str) -> subprocess.Popen[bytes]:
        """Starts its command, or another."""
        words = [*self._enter, *(command or self.command)]
        return subprocess.Popen(words, env={**self.environment, **variables}, cwd="/")  # noqa: S603 - of the image

    def call(self, *command: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
        """Runs a command in it."""
        return subprocess.run(  # noqa: S603 - of the image, or from this file
            [*self._enter, *command],
            env={**self.environment, **variables},
            cwd="/",
            capture_output=True,
            timeout=READY_SECONDS,
            check=False,
        )

    def must(self, *command: str) -> str:
        """Runs a command in it, which must succeed; returns its output."""
        done = self.call(*command)
        if done.returncode:
            raise CheckError(done.stderr.decode().strip().rpartition("\n")[2])
        return done.stdout.decode()

    def wait_for(self, process: subprocess.Popen[bytes], *words: str) -> None:
        """Runs a command in it repeatedly, until it succeeds."""
        deadline = time.monotonic() + READY_SECONDS
        while (done := self.call(*words)).returncode:
            if time.monotonic() > deadline or process.poll() is not None:
                raise CheckError(f"not healthy within {READY_SECONDS} s: {done.stderr.decode()}")
            time.sleep(0.1)

    def stop(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        """Sends the signal that an engine would send; the process must exit by itself, within seconds, with 0."""
        process.send_signal(self.stop_signal)
        if code := process.wait(seconds):
            raise CheckError(f"ended with exit code {code}")


def _close(root: Path, volumes: Sequence[str]) -> None:
    """Adds what an engine adds, mounts the volumes, and makes everything else read-only."""
    _run("mount", "--bind", str(root), str(root))
    for folder in ("dev", "proc", "tmp", *(volume.lstrip("/") for volume in volumes)):
        if not (root / folder).exists():
            (root / folder).mkdir(parents=True)
            (root / folder).chmod(0o777)
    for device in ("null", "urandom"):
        (root / "dev" / device).touch()
        _run("mount", "--bind", f"/dev/{device}", str(root / "dev" / device))
    _run("mount", "-t", "proc", "proc", str(root / "proc"))
    for volume in volumes:
        inside = root / volume.lstrip("/")
        owner = inside.stat()
        options = f"mode={owner.st_mode & 0o7777:o},uid={owner.st_uid},gid={owner.st_gid}"
        _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(inside))
    _run("mount", "-o", "remount,bind,ro", str(root))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - from this file
    if done.returncode:
        raise CheckError(f"{' '.join(command)}: {done.stderr.strip()}")


class Pod:
    """The spec of the adapter's pod in an overlay of deploy/."""

    def __init__(self, overlay: str) -> None:
        made = manifests.build(overlay)
        spec = manifests.one(made, "Deployment")["spec"]["template"]["spec"]
        self.variables = manifests.variables(made)
        self.grace_seconds = int(spec["terminationGracePeriodSeconds"])
        self.probed = int(spec["containers"][0]["readinessProbe"]["grpc"]["port"])
        self.kfp: manifests.Manifest = next(iter(spec.get("initContainers", [])), {})

    def probe(self) -> None:
        """Checks health as kubelet does: over gRPC, in plain text, for the service ""."""
        with Client(f"127.0.0.1:{self.probed}") as client:
            if client.health() is not HealthStatus.SERVING:
                raise CheckError("a probe of Kubernetes would say that it does not serve")


def on_a_cluster(image: Image, version: str) -> None:
    """Runs the image with an embedded KFP of this machine, and uses it as users do."""
    pod = Pod("single-user")
    with tempfile.TemporaryDirectory() as folder, launch(Path(folder)) as kfp:
        process = image.start({**pod.variables, "KFADAPTER_KFP_URL": kfp.wait_ready()})
        try:
            image.wait_for(process, *image.health)
            pod.probe()
            port, metrics_port = image.ports
            _upload(port)
            _scrape(metrics_port)
            image.must("python", "-c", NOTIFIER, *image.volumes)
            image.must("python", "-c", PROBE, *image.volumes)
            if not (reported := image.must("kfadapter", "--version")).startswith(f"kfadapter {version}\n"):
                raise CheckError(f"its version is {reported}")
            image.stop(process, pod.grace_seconds)
        finally:
            process.kill()
    _say("it starts, is healthy, takes an upload, writes nowhere else, and ends with exit code 0")


def with_the_embedded_kfp(image: Image, pod: Pod) -> None:
    """Runs both containers of a try-out, and a pipeline in them; stops them as Kubernetes does, the adapter first."""
    kfp = image.start({one["name"]: one["value"] for one in pod.kfp["env"]}, *pod.kfp["command"])
    process = image.start(pod.variables)
    try:
        image.wait_for(kfp, *pod.kfp["startupProbe"]["exec"]["command"])
        image.wait_for(process, *image.health)
        pod.probe()
        _run_pipeline(image.ports[0])
        image.stop(process, pod.grace_seconds)
        image.stop(kfp, pod.grace_seconds)
    finally:
        process.kill()
        kfp.kill()
    _say("it starts beside the embedded KFP, runs a pipeline there, and both end with exit code 0")


def _refuses_to_listen(image: Image) -> None:
    """Without the setting that the network is trusted it must not start, and must name that setting."""
    done = image.call(*image.command)
    if done.returncode != USAGE or b"KFADAPTER_INSECURE_LISTEN" not in done.stderr:
        raise CheckError(f"started on all interfaces unasked, or ended with {done.returncode}: {done.stderr.decode()}")


def _run_pipeline(port: str) -> None:
    with Client(f"127.0.0.1:{port}") as client:
        client.pipelines.upload(ROOT / "examples" / "train.yaml", name="train")
        run_id = client.runs.create("train", parameters={"dataset_seed": 7}).run_id
        ended = client.runs.wait(run_id, timeout=READY_SECONDS)
        if ended.state is not RunState.SUCCEEDED:
            raise CheckError(f"the run ended as {ended.state.name}: {ended.error}")


def _upload(port: str) -> None:
    """Uploads a file that is too large for memory, from outside the container."""
    with tempfile.TemporaryFile() as file, Client(f"127.0.0.1:{port}") as client:
        file.write((ROOT / "examples" / "train.yaml").read_bytes() + PADDING * 30_000)
        file.seek(0)
        client.pipelines.upload(file, name="from-outside")
        if not client.pipelines.get("from-outside").latest_version:
            raise CheckError("the upload is not there")


def _scrape(port: str) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=READY_SECONDS) as answer:
        if b"kfadapter_received_bytes_count" not in answer.read():
            raise CheckError("the metrics do not count the upload")


def _say(text: str) -> None:
    sys.stdout.write(f"container: {text}\n")
    sys.stdout.flush()


def main(root: Path, inspected: Path, version: str) -> int:
    """Runs the image in the folder `root`; returns the exit code."""
    try:
        _run("ip", "link", "set", "lo", "up")
        size = sum(path.lstat().st_size for path in (root / "opt" / "kfadapter").rglob("*"))
        _say(f"the environment is {round(size / 1e6)} MB")
        embedded = any((root / "opt" / "kfadapter" / "lib").glob("python*/site-packages/kfp"))
        pod = Pod("embedded")
        mounts = [mount["mountPath"] for mount in pod.kfp["volumeMounts"]] if embedded else []
        image = Image(root, inspected, mounts)
        _refuses_to_listen(image)
        if embedded:
            with_the_embedded_kfp(image, pod)
        else:
            on_a_cluster(image, version)
    except CheckError as error:
        sys.stderr.write(f"check-container: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
