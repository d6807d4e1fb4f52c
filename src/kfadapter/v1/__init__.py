"""Version 1 of the kfadapter API, generated from protos/kfadapter/v1."""
