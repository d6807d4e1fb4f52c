"""Read of an artifact of 1 GiB from a stand-in for S3, compared with obstore alone, in this process and over gRPC.

Over gRPC, a store as fast as memory shows the throughput of Python's gRPC; one as fast as a network shows what clients
notice.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, cast

import grpc
import obstore
from obstore.store import S3Store

from benchmarks.caller import Outcome
from benchmarks.processes import Child
from benchmarks.results import ratio
from benchmarks.rounds import take_turns, times
from benchmarks.sides import ADAPTER
from kfadapter.v1 import artifact_pb2 as pb
from kfadapter.v1.artifact_pb2_grpc import ArtifactServiceStub
from kfadapter_grpc.contract.artifacts import ReadArtifactRequest
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.run_outputs import RunArtifact
from kfadapter_grpc.daemon.log import logging_to_stderr
from kfadapter_grpc.kfp.artifact_bytes import CHUNK_BYTES, ArtifactBytes
from kfadapter_grpc.kfp.object_stores import ObjectStores
from kfadapter_grpc.server.grpc_server import AdapterServer
from kfadapter_grpc.server.memory import return_large_blocks
from kfadapter_grpc.services.artifacts import ArtifactServicer
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.results import Row
    from benchmarks.stage import Stage
    from kfadapter_grpc.kfp.artifacts import Artifacts

ARTIFACT = RunArtifact("system.Model", "s3://models/big.bin", artifact_id="big", name="big", run_id="run")
OBSTORE = "obstore"
GRPC = "gRPC alone"
"""The adapter's server without a store: it sends the same bytes again and again."""
GIB = 2**30
GIGABIT = 125_000_000
"""A network of 1 Gbit/s, in bytes per second."""
_SECONDS = 600.0


class _Runs:
    """A reader with one artifact."""

    def find(self, run_id: str, artifact_id: str, call: Call) -> tuple[RunArtifact, str]:
        """Returns the artifact."""
        del run_id, artifact_id, call
        return ARTIFACT, ""


def run(stage: Stage) -> Iterator[Row]:
    """Measures a store as fast as memory and ones as fast as a network."""
    size = GIB // 16 if stage.scale.quick else GIB
    rounds = 2 if stage.scale.quick else 5
    for name, speed in (("as fast as memory", 0), ("of 10 Gbit/s", 10 * GIGABIT), ("of 1 Gbit/s", GIGABIT)):
        with ExitStack() as stack:
            url = _store(stack, stage, size, speed)
            file = stores_file(stage.folder / f"stores-{speed}", url)
            source = stack.enter_context(closing(ArtifactBytes(ObjectStores(file))))
            sides = {
                OBSTORE: partial(timed, partial(_plain, _client(url)), size),
                f"{ADAPTER}, before gRPC": partial(timed, partial(_read, source), size),
                GRPC: partial(timed, partial(_call, _stub(stack, stage, size)), size),
                ADAPTER: partial(timed, partial(_call, _stub(stack, stage, file)), size),
            }
            took = take_turns(sides, rounds if speed != GIGABIT else 2)
            row = times("artifact_bytes", f"Read {size // 2**20} MiB, store {name}", took)
            goal = ratio(row, ADAPTER, OBSTORE, "at most 1.25 x", at_most=1.25)
            yield replace(
                row, findings=(goal, ratio(row, f"{ADAPTER}, before gRPC", OBSTORE), ratio(row, GRPC, OBSTORE))
            )


def timed(read: Callable[[], int], size: int) -> Outcome:
    """Times the read of `size` bytes."""
    begun = time.perf_counter()
    got = read()
    took = time.perf_counter() - begun
    if got != size:
        raise ValueError(f"{got} bytes instead of {size}")
    return Outcome((took,), took)


def stores_file(folder: Path, url: str) -> Path:
    """Writes the settings of a store with made-up credentials."""
    (folder / "secret").mkdir(parents=True)
    for name in ("accesskey", "secretkey"):
        (folder / "secret" / name).write_text("any")
    default = {"endpoint": url, "region": "us-east-1", "credentials": {"secretRef": {"secretName": "secret"}}}
    file = {"defaultPipelineRoot": "s3://models", "secrets": str(folder), "providers": {"s3": {"default": default}}}
    (folder / "stores.json").write_text(json.dumps(file))
    return folder / "stores.json"


def _store(stack: ExitStack, stage: Stage, size: int, speed: int) -> str:
    command = [sys.executable, "-m", "tests.object_store", str(size), str(speed)]
    return stack.enter_context(Child(command, stage.home)).read(_SECONDS)


def _stub(stack: ExitStack, stage: Stage, read: Path | int) -> ArtifactServiceStub:
    """Starts an adapter that reads the stores of a file, or no store and sends so many bytes."""
    command = [sys.executable, "-m", "benchmarks.artifact_bytes", str(read)]
    target = stack.enter_context(Child(command, stage.home)).read(_SECONDS)
    return ArtifactServiceStub(stack.enter_context(grpc.insecure_channel(target)))


def _client(url: str) -> S3Store:
    return S3Store(
        "models",
        config={"endpoint": url, "region": "us-east-1", "access_key_id": "any", "secret_access_key": "any"},
        client_options={"allow_http": True, "timeout": "1h"},
    )


def _plain(client: S3Store) -> int:
    return sum(map(len, obstore.get(client, "big.bin")))


def _read(source: ArtifactBytes) -> int:
    with source.read(ARTIFACT, ReadArtifactRequest("run", "big"), Call("benchmark", _SECONDS)) as parts:
        next(parts)
        return sum(len(one) for one in parts if isinstance(one, bytes))


def _call(stub: ArtifactServiceStub) -> int:
    return sum(len(one.chunk) for one in stub.Read(pb.ReadArtifactRequest(run_id="run", artifact_id="big")))


@contextmanager
def _constant(size: int, *_: object) -> Iterator[Iterator[bytes]]:
    yield repeat(bytes(CHUNK_BYTES), size // CHUNK_BYTES)


def main(read: str) -> None:
    """Serves the artifact until the input ends, with the log and the memory allocation of production."""
    return_large_blocks()
    stores = None if read.isdecimal() else Path(read)
    settings = Settings.load(artifact_stores=stores, listen="127.0.0.1:0")
    source = ArtifactBytes(ObjectStores(stores) if stores else None)
    with logging_to_stderr("json", "info"), closing(source):
        opener = source.read if stores else partial(_constant, int(read))
        servicer = ArtifactServicer(cast("Artifacts", _Runs()), read=opener)
        with AdapterServer(settings, [servicer], lambda: True) as server:
            sys.stdout.write(f"{server.address}\n")
            sys.stdout.flush()
            sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
