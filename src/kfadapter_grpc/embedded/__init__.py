"""A Kubeflow Pipelines API server for one machine: laptops, tests and demos.

It speaks KFP's REST API v2beta1 (as of 2.17) for pipelines, their versions and uploads, and the cheap v1beta1
list of versions, keeps everything in one folder, and listens on loopback only. It always runs in a process of
its own: `python -m kfadapter_grpc.embedded --data DIR --port N`, or `kfadapter_grpc.embedded.process.start`.

The layers, from the outside in: `server` (the process: folder, port, signals), `application` (all routes),
`pipeline_routes` and `upload_routes` (HTTP in, one store call, JSON out), `pipeline_file` (what KFP accepts as a
pipeline) and `store` (SQLite).
"""
