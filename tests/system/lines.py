"""Broken connections: uploads over them, and minutes of mixed load while all connections to KFP are cut."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.pipeline_text import KIB
from tests.system.between import CuttingProxy
from tests.system.load import Crowd, Repeated
from tests.system.records import stored_versions
from tests.system.scenario import Finding, Stage, Use, at_least, at_most, exactly, none, scenario, shown

from kfadapter_grpc.client import CannotConnectError, KfpUnavailableError, RunFilter, View

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

BROKEN_UPLOADERS = 4
LEAST_BYTES, MOST_BYTES = 1_000, 600_000
"""After how many bytes a connection to KFP is cut, in either direction; uploads share the one to the adapter."""
MOST_ATTEMPTS = 30
"""How often a caller repeats an upload, each time with the library's own repetitions."""
READERS, UPLOADERS, WATCHERS = 6, 2, 8
PIPELINES = 20
"""Among how many names the uploads of the soak are spread."""
CUT_SECONDS = 5
"""How often all connections between the adapter and KFP are cut."""
_EXPECTED = frozenset({"KFP_UNAVAILABLE", "PIPELINE_NOT_FOUND", "KFP_TIMEOUT", "CANCELLED", "NAME_CONTESTED"})


@scenario(not_covered="bytes that are changed on the way: TCP and TLS see to that, and the checksum is compared.")
def broken_lines(stage: Stage) -> Iterator[Finding]:
    """Every upload is stored exactly once, although connections on both sides of the adapter break again and again."""
    count, chance = stage.scaled(500, 40), stage.chance("bytes")
    kfp = stage.embedded(stage.folder / "kfp")
    behind = stage.enter(CuttingProxy(urlsplit(kfp.url).netloc, lambda: chance.randint(LEAST_BYTES, MOST_BYTES)))
    adapter, shared = stage.adapter(f"http://{behind.target}"), BROKEN_UPLOADERS * MOST_BYTES
    before = stage.enter(CuttingProxy(adapter.target, lambda: chance.randint(LEAST_BYTES, shared)))
    repeated = Repeated(before.target, MOST_ATTEMPTS, CannotConnectError, KfpUnavailableError)
    file = stage.file(200 * KIB)

    def upload(number: int) -> str:
        name = f"broken-lines-{number}"
        receipt = repeated(lambda client: client.pipelines.upload(file, name=name, request_id=name))
        return receipt.version.pipeline_version_id

    with ThreadPoolExecutor(BROKEN_UPLOADERS) as threads:
        versions = set(threads.map(upload, range(count)))
    stored = [len(one) for one in stored_versions(stage.adapter(kfp.url).target).values()]
    yield exactly("uploads acknowledged", len(versions), count)
    yield exactly("versions stored", sum(stored), count)
    yield none("pipelines with more than one version", sum(number > 1 for number in stored))
    yield at_least("lines cut between caller and adapter", before.cuts, count / 8)
    yield at_least("lines cut between adapter and KFP", behind.cuts, count / 4)
    yield shown("times a caller repeated what the library gave up", repeated.count)


def _read(crowd: Crowd, chance: random.Random) -> None:
    client, pipeline = crowd.client, f"soak-{chance.randrange(PIPELINES)}"
    calls: list[Callable[[], object]] = [
        lambda: client.pipelines.get(pipeline),
        lambda: client.pipelines.get(pipeline, view=View.BASIC),
        lambda: client.pipelines.list(page_size=10).page(),
        lambda: client.pipelines.list_versions(pipeline, page_size=10).page(),
        lambda: client.runs.list(page_size=10).page(),
        client.health,
    ]
    crowd.stopped.wait(0.02)
    chance.choice(calls)()


def _watch(crowd: Crowd, _: random.Random) -> None:
    """Watches, with a pause of a second after each event."""
    for _event in crowd.client.runs.watch(where=RunFilter()):
        crowd.stopped.wait(1)


@scenario(not_covered="days; a KFP other than the embedded one.")
def soak(stage: Stage) -> Iterator[Finding]:
    """Under mixed load, with connections to KFP cut repeatedly, nothing grows and no acknowledged upload is lost."""
    seconds, uses, acknowledged = stage.scaled(540, 30), list[Use](), dict[str, str]()
    proxy = stage.enter(CuttingProxy(urlsplit(stage.embedded(stage.folder / "kfp").url).netloc))
    adapter, file = stage.adapter(f"http://{proxy.target}"), stage.file(100 * KIB)

    def upload(crowd: Crowd, chance: random.Random) -> None:
        request_id, name = f"soak-{chance.getrandbits(64):016x}", f"soak-{chance.randrange(PIPELINES)}"
        crowd.stopped.wait(0.3)
        receipt = crowd.client.pipelines.upload(file, name=name, request_id=request_id)
        acknowledged[request_id] = receipt.version.pipeline_version_id

    with Crowd(stage, adapter.target, (_read, READERS), (upload, UPLOADERS), (_watch, WATCHERS)) as crowd:
        for second in range(seconds):
            time.sleep(1)
            uses.append(Use.of(adapter.pid))
            if second % CUT_SECONDS == 0:
                proxy.cut()
    stored = {version for versions in stored_versions(adapter.target).values() for version in versions}
    yield shown("calls that succeeded", crowd.ended.total())
    yield shown("lines cut", proxy.cuts)
    yield at_least("uploads acknowledged", len(acknowledged), seconds / 2)
    yield none("of these not there at the end", len(set(acknowledged.values()) - stored))
    yield none("of these stored twice", len(acknowledged) - len(set(acknowledged.values())))
    odd = Counter(reason or text for _, reason, text in crowd.failures if reason not in _EXPECTED)
    yield none("calls that ended in a way that is not KFP's absence", dict(odd))
    yield at_most("memory grows after the warm-up by", _growth([use.memory for use in uses]), 8, "MiB")
    yield at_most("threads grow by", _growth([use.threads for use in uses]), 4)
    yield at_most("open descriptors grow by", _growth([use.files for use in uses]), 8)


def _growth(samples: Sequence[float]) -> float:
    """The growth of a figure over the samples after a warm-up, by linear regression."""
    steady = samples[int(len(samples) * 0.4) :]
    return statistics.linear_regression(range(len(steady)), steady).slope * len(steady)
