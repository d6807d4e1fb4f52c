"""Executes one run, in a process of its own: `python -m kfadapter_embedded.runner`, and lines of JSON."""
