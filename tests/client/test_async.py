"""What is AsyncClient's own: calls at once on one event loop, cancellation, closing. The rest is tested with Client."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING

import pytest

from kfadapter_grpc.client import CallCancelledError, Client, DeadlineError
from kfadapter_grpc.client.aio import AsyncClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client.fake_adapter import FakeAdapter


@pytest.fixture
def held(fake: FakeAdapter) -> Iterator[FakeAdapter]:
    """An adapter that does not respond to Get for as long as the test lasts."""
    fake.add("train")
    fake.hold.clear()
    yield fake
    fake.hold.set()


def test_it_has_the_calls_of_the_other_client(target: str) -> None:
    """Each resource has each public method, with the same arguments."""

    async def check() -> int:
        async with AsyncClient(target) as client:
            count = 0
            for name, resource in vars(Client(target)).items():
                for method, call in inspect.getmembers(resource, inspect.ismethod) if name[0] != "_" else ():
                    if method[0] != "_":
                        other = getattr(getattr(client, name), method)
                        assert inspect.signature(other).parameters == inspect.signature(call).parameters
                        count += 1
            return count

    assert asyncio.run(check()) > 30


def test_calls_at_once(fake: FakeAdapter, target: str) -> None:
    """Calls of one loop overlap."""
    for number in range(20):
        fake.add(f"train-{number}")

    async def get_all() -> list[str]:
        async with AsyncClient(target) as client:
            found = await asyncio.gather(*(client.pipelines.get(f"train-{number}") for number in range(20)))
            return [one.name for one in found]

    assert asyncio.run(get_all()) == [f"train-{number}" for number in range(20)]


@pytest.mark.usefixtures("held")
def test_a_task_that_is_cancelled(target: str) -> None:
    """Cancelling the task cancels the call, and leaves the client usable."""

    async def cancel() -> None:
        async with AsyncClient(target, timeout=0.5) as client:
            task = asyncio.create_task(client.pipelines.get("train"))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.pipelines.list().page()).items
            with pytest.raises(DeadlineError):
                await client.pipelines.get("train")

    asyncio.run(cancel())


@pytest.mark.usefixtures("held")
def test_closing_ends_calls(target: str) -> None:
    """A call in flight fails when the client is closed; later ones say that it is."""

    async def close() -> None:
        client = AsyncClient(target)
        task = asyncio.create_task(client.pipelines.get("train"))
        await asyncio.sleep(0.1)
        await client.close()
        with pytest.raises(CallCancelledError, match="closed"):
            await task
        with pytest.raises(RuntimeError, match="closed"):
            await client.pipelines.get("train")

    asyncio.run(close())


def test_a_progress_that_raises_ends_the_upload(target: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its exception comes out of the upload, as with Client."""
    file = tmp_path_factory.mktemp("upload") / "train.yaml"
    file.write_bytes(b"x" * 1000)

    def stop(done: int, total: int | None) -> None:
        raise LookupError(done, total)

    async def upload() -> None:
        async with AsyncClient(target) as client:
            with pytest.raises(LookupError, match="1000"):
                await client.pipelines.upload(file, name="train", progress=stop)

    asyncio.run(upload())
