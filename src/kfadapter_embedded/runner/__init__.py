"""Executes one run, in its own process: `python -m kfadapter_embedded.runner.run`, with lines of JSON."""
