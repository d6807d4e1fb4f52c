"""The training manager's own `PipelineMgr`, made of this project's stubs: moving over means changing imports.

Needs the base install only, on Python 3.10 and newer. `docs/training-manager.md` shows the change file by file.
"""

from kfadapter_grpc.contract.training_arguments import ArgumentProfile
from kfadapter_grpc.training_manager.pipeline_mgr import (
    PipelineMgr,
    PipelineMgrError,
    terminate_training,
    training_start,
)
from kfadapter_grpc.training_manager.response import Response

__all__ = [
    "ArgumentProfile",
    "PipelineMgr",
    "PipelineMgrError",
    "Response",
    "terminate_training",
    "training_start",
]
