"""Completion notices: how the runs of training jobs end, posted to whoever waits for that, from an outbox on disk.

`follower` sees runs end through an adapter, `outbox` writes a notice for each end before any is sent, `sender`
posts them until they are answered. Needs the base install and the extra `notify`.
"""
