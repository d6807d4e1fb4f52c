"""The page in front of an adapter and an embedded KFP, with some pipelines and runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.console.visiting import Visitor, page
from tests.legacy_http.calling import serving

from kfadapter_embedded.process import start
from kfadapter_grpc.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.contract.spec import Json

EXAMPLES = Path(__file__).parents[2] / "examples"
PIPELINES = Path(__file__).parents[1] / "data" / "pipelines"
WAIT_SECONDS = 120


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an adapter in front of an embedded KFP that executes runs, as `kfadapter dev` starts both."""
    folder = tmp_path_factory.mktemp("console")
    with start(folder) as kfp, serving(kfp.url, artifact_folder=folder / "runs") as server:
        yield server.address


@pytest.fixture(scope="session")
def client(target: str) -> Iterator[Client]:
    """A client of that adapter."""
    with Client(target, tls=False) as made:
        yield made


@pytest.fixture(scope="session")
def page_url(target: str) -> Iterator[str]:
    """The URL of a page in front of that adapter."""
    with page(target) as visitor:
        yield visitor.url


@pytest.fixture
def visitor(page_url: str) -> Visitor:
    """A visitor of the page, without cookies."""
    return Visitor(page_url)


@dataclass(frozen=True)
class Made:
    """What is there: pipelines by their names, and finished runs.

    Attributes:
        train: A pipeline with two versions that differ, parameters of all types, and a required one.
        metrics: A pipeline whose runs have metrics.
        good: A run of `metrics` that succeeded, with slope 2.
        worse: Another one, with slope 1.5.
        failed: A run with a task that failed, and an exit handler that ran.
        korean: A run whose parameters and outputs are Korean.
    """

    train: str
    metrics: str
    good: Run
    worse: Run
    failed: Run
    korean: Run


@pytest.fixture(scope="session")
def made(client: Client) -> Made:
    """Pipelines and runs, made once; takes about five seconds. Tests that change something make their own."""
    for file, name in [
        (EXAMPLES / "train.yaml", "train"),
        (EXAMPLES / "train_v2.yaml", "train"),
        (EXAMPLES / "metrics.yaml", "metrics"),
        (PIPELINES / "fails_with_exit_handler.yaml", "fails"),
        (PIPELINES / "hello_world.yaml", "hello"),
    ]:
        client.pipelines.upload(file, name=name, description="작은 모델을 학습한다")
    wanted: list[tuple[str, dict[str, Json], str]] = [
        ("metrics", {"slope": 2.0}, "good"),
        ("metrics", {"slope": 1.5}, "worse"),
        ("fails", {}, "failing"),
        ("hello", {"recipient": "바다"}, "안녕"),
    ]
    started = [client.runs.create(name, parameters=values, display_name=shown) for name, values, shown in wanted]
    good, worse, failed, korean = (client.runs.wait(run.run_id, timeout=WAIT_SECONDS) for run in started)
    return Made("train", "metrics", good, worse, failed, korean)
