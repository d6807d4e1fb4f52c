"""Watches runs: one poller for all watches, and a cache from which each is sent what is news to it."""

from kfadapter_grpc.watch.poller import WatchPoller

__all__ = ["WatchPoller"]
