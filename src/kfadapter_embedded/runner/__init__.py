"""Executes one run, in a process of its own: `python -m kfadapter_embedded.runner.run`, and lines of JSON."""
