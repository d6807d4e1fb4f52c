"""The training manager's own `PipelineMgr`, made from this project's stubs: migrating means changing imports.

An alias of `kfadapter_oran.pipeline_mgr`. `docs/training-manager.md` shows the change file by file.
"""

from kfadapter_oran.jobs import ArgumentProfile
from kfadapter_oran.pipeline_mgr import (
    PipelineMgr,
    PipelineMgrError,
    Response,
    terminate_training,
    training_start,
)

__all__ = ["ArgumentProfile", "PipelineMgr", "PipelineMgrError", "Response", "terminate_training", "training_start"]
