"""Follows runs for those who watch: one poller for all, and bookkeeping that tells each what is news to it."""

from kfadapter_grpc.watch.poller import WatchPoller
from kfadapter_grpc.watch.watch import Wanted

__all__ = ["Wanted", "WatchPoller"]
