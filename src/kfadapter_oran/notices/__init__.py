"""Completion notices: how the runs of training jobs end, posted to a receiver from an outbox on disk.

`watcher` watches runs through an adapter, `outbox` writes a notice for each end before it is sent, `sender`
posts notices until they are delivered. Needs the base install and the extra `notify`.
"""
