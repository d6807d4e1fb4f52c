"""Messages and stubs of the kfadapter services; the package is named as in the proto files."""
