"""The client library for asyncio.

from kfadapter_grpc.client.aio import AsyncClient

async with AsyncClient("127.0.0.1:50051") as client:
    await client.pipelines.upload("train.yaml", name="train")
    async for event in client.runs.watch(run_ids):
        ...
"""

from kfadapter_grpc.client.asynchronous import AsyncClient, AsyncPages

__all__ = ["AsyncClient", "AsyncPages"]
