"""Watches runs: one poller for all watches, and a cache from which each watch is sent its updates."""
