"""What a pipeline spec says about itself, read from the JSON that KFP serves.

Only what is used is decoded; the rest, which is most of a spec, is skipped. KFP serves whatever was uploaded once, by
any SDK, so nothing here is taken for granted: what is not as expected is named by its path, and the rest is told.
"""

from kfadapter_grpc.kfp.spec.summary import summarize
from kfadapter_grpc.kfp.spec.weight import summary_weight

__all__ = ["summarize", "summary_weight"]
