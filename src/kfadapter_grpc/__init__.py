"""A gRPC service in front of Kubeflow Pipelines."""
