"""Builds and runs the container that the Dockerfile describes, without an engine; called by scripts/check-container.

What is built, copied, set and run is read from the Dockerfile, so that the two cannot drift apart. Everything happens
in namespaces that end with this process: nothing is left on the machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from scripts import manifests
from scripts.container import (
    READY_SECONDS,
    ROOT,
    CheckError,
    Container,
    begin_opt,
    build_stage,
    close_root,
    command_inside,
    environment_of,
    make_root,
    mount,
    read_stages,
    run_command,
    volumes_of,
)

from kfadapter_embedded.process import launch
from kfadapter_grpc.client import Client, HealthStatus, RunState

if TYPE_CHECKING:
    from scripts.dockerfile import Stage

USAGE = 2
VERSION = "1.2.3.dev4+g0123abc"
"""What the image is told to be: a build argument, as git is not copied."""
EMBEDDED = os.environ.get("PACKAGES") == "embedded"
"""Whether the image with the embedded KFP is built, and run as a try-out on Kubernetes would."""
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
assert not found, f"packages that nobody needs there: {found}"
written = []
for folder, folders, _ in os.walk("/"):
    folders[:] = [name for name in folders if not os.path.ismount(os.path.join(folder, name)) or name != "proc"]
    try:
        pathlib.Path(folder, "probe").touch()
    except OSError:
        continue
    pathlib.Path(folder, "probe").unlink()
    written.append(folder)
assert written == volumes, f"can be written to: {written}; declared: {volumes}"
left = [name for volume in volumes for name in os.listdir(volume)]
assert not left, f"left behind: {left}"
"""
"""What runs inside, as the container's user."""
NOTIFIER = """
import pathlib, re, shutil, subprocess, sys, urllib.request

folder = pathlib.Path(sys.argv[1], "notify")
told = ["--url", "http://127.0.0.1:9/", "--outbox", str(folder / "notices.db"), "--metrics-listen", "127.0.0.1:0"]
process = subprocess.Popen(["kfadapter", "notify", *told, "--log-format", "json"], stderr=subprocess.PIPE, text=True)
address = next(found[1] for line in process.stderr if (found := re.search(r'"metrics": "([0-9.:]+)"', line)))
assert urllib.request.urlopen(f"http://{address}/healthz", timeout=20).status == 200
process.terminate()
assert process.wait(20) == 0, "the notifier does not end as it should"
shutil.rmtree(folder)
"""
"""What runs a notifier inside, for a moment."""
TOLD = """
import subprocess, sys

told = subprocess.run(["kfadapter", "--version"], capture_output=True, text=True, check=True).stdout
assert told.startswith(f"kfadapter {sys.argv[1]}\\n"), f"it takes itself for {told}"
"""
"""What compares the version that it tells, inside, too."""


def main() -> int:
    """Builds, then runs in a network of its own; tells the exit code."""
    try:
        if sys.argv[1:]:
            run(Path(sys.argv[1]))
        else:
            build()
    except CheckError as error:
        sys.stderr.write(f"check-container: {error}\n")
        return 1
    return 0


def build() -> None:
    """Runs the builder stage, makes the final stage's root, and lets a child run it where no port is taken."""
    builder, final = read_stages()
    with tempfile.TemporaryDirectory(prefix="kfadapter-container-") as folder:
        work = Path(folder)
        mount("-t", "tmpfs", "tmpfs", str(work))
        try:
            begin_opt(work)
            build_stage(builder, {"VERSION": VERSION, "PACKAGES": "embedded" if EMBEDDED else "server"})
            root = make_root(final, work, ["/bin", "/usr/bin"] if EMBEDDED else [])  # steps are commands of sh
            _say(f"the environment is {_megabytes(root / 'opt')} MB")
            close_root(root, [*volumes_of(final), *(_pod_volumes() if EMBEDDED else [])])
            run_command("unshare", "--net", sys.executable, "-m", "scripts.check_container", str(work), cwd=ROOT)
        finally:
            run_command("umount", "--lazy", "--recursive", str(work))


def run(work: Path) -> None:
    """Runs the image beside an embedded KFP and does with it what its users do."""
    _, final = read_stages()
    run_command("ip", "link", "set", "lo", "up")
    _refuses_to_listen(work, final)
    if EMBEDDED:
        _try_out(work / "root", final)
        return
    with launch(work / "kfp") as kfp:
        pod = _Pod("single-user")
        container = Container(work / "root", final, {**pod.variables, "KFADAPTER_KFP_URL": kfp.wait_ready()})
        try:
            container.wait_healthy()
            port, metrics_port = final.one("EXPOSE").words
            _probe(pod)
            _upload(port)
            _scrape(metrics_port)
            container.run_inside("python", "-c", NOTIFIER, *volumes_of(final))
            container.run_inside("python", "-c", PROBE, *volumes_of(final))
            container.run_inside("python", "-c", TOLD, VERSION)
            container.stop(pod.grace_seconds)
        finally:
            container.process.kill()
    _say("it starts, is healthy, takes an upload, writes nowhere else, and ends with exit code 0")


def _try_out(root: Path, final: Stage) -> None:
    """Runs both containers of a try-out, and a pipeline in them; ends them as Kubernetes does, the adapter first."""
    pod = _Pod("embedded")
    kfp = Container(root, final, {one["name"]: one["value"] for one in pod.kfp["env"]}, pod.kfp["command"])
    container = Container(root, final, pod.variables)
    try:
        kfp.wait_for(*pod.kfp["startupProbe"]["exec"]["command"])
        container.wait_healthy()
        _probe(pod)
        _run_pipeline(final.one("EXPOSE").words[0])
        container.stop(pod.grace_seconds)
        kfp.stop(pod.grace_seconds)
    finally:
        container.process.kill()
        kfp.process.kill()
    _say("it starts beside the embedded KFP, runs a pipeline there, and both end with exit code 0")


class _Pod:
    """What an overlay in deploy/ says of the adapter's pod."""

    def __init__(self, overlay: str) -> None:
        made = manifests.build(overlay)
        spec = manifests.one(made, "Deployment")["spec"]["template"]["spec"]
        self.variables = manifests.variables(made)
        self.grace_seconds = int(spec["terminationGracePeriodSeconds"])
        self.probed = int(spec["containers"][0]["readinessProbe"]["grpc"]["port"])
        self.kfp: manifests.Manifest = next(iter(spec.get("initContainers", [])), {})


def _pod_volumes() -> list[str]:
    """The folders that a try-out mounts besides."""
    return [mount["mountPath"] for mount in _Pod("embedded").kfp["volumeMounts"]]


def _refuses_to_listen(work: Path, final: Stage) -> None:
    """Without the word that the network is trusted it must not start, and say which word that is."""
    command = [*command_inside(work / "root", final), *final.one("ENTRYPOINT").words, *final.one("CMD").words]
    done = subprocess.run(  # noqa: S603
        command, env=environment_of(final), cwd="/", capture_output=True, timeout=READY_SECONDS, check=False
    )
    if done.returncode != USAGE or b"KFADAPTER_INSECURE_LISTEN" not in done.stderr:
        raise CheckError(f"started on all interfaces unasked, or ended with {done.returncode}: {done.stderr.decode()}")


def _probe(pod: _Pod) -> None:
    """Asks as kubelet does: over gRPC, in plain text, for the health of the name ""."""
    with Client(f"127.0.0.1:{pod.probed}") as client:
        if client.health() is not HealthStatus.SERVING:
            raise CheckError("a probe of Kubernetes would say that it does not serve")


def _run_pipeline(port: str) -> None:
    """Uploads a pipeline, runs it, and waits for its end."""
    with Client(f"127.0.0.1:{port}") as client:
        client.pipelines.upload(ROOT / "examples" / "train.yaml", name="train")
        ended = client.runs.wait(
            client.runs.create("train", parameters={"dataset_seed": 7}).run_id, timeout=READY_SECONDS
        )
        if ended.state is not RunState.SUCCEEDED:
            raise CheckError(f"the run ended as {ended.state.name}: {ended.error}")


def _upload(port: str) -> None:
    """Uploads a file that is too large for memory, from outside."""
    pipeline = (ROOT / "examples" / "train.yaml").read_bytes()
    with tempfile.TemporaryFile() as file, Client(f"127.0.0.1:{port}") as client:
        file.write(pipeline + PADDING * 30_000)
        file.seek(0)
        client.pipelines.upload(file, name="from-outside")
        if not client.pipelines.get("from-outside").latest_version:
            raise CheckError("the upload is not there")


def _scrape(port: str) -> None:
    """Asks for metrics as Prometheus does, from outside."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=READY_SECONDS) as answer:
        if b"kfadapter_received_bytes_count" not in answer.read():
            raise CheckError("the metrics do not tell of the upload")


def _megabytes(folder: Path) -> int:
    return round(sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6)


def _say(text: str) -> None:
    sys.stdout.write(f"container: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
