"""A Kubeflow Pipelines API server for one machine: laptops, tests and demos.

It serves KFP's REST API v2beta1 (as of 2.17.0) for pipelines, pipeline versions, uploads, experiments, runs and
recurring runs, and the v1beta1 list of versions. It executes runs, including those of recurring runs, on this machine.
It stores all data in one folder and listens on loopback only. It always runs in its own process:
`python -m kfadapter_embedded --data DIR --port N`, or `kfadapter_embedded.process.start`.

From the outside in: `server` (the process: folder, port, signals), `application` (all routes), one module per resource
(`pipelines`, `uploads`, `experiments`, `runs`, `run_logs`, `recurring_runs`), and `store`, which stores each record as
the JSON document that the API returns; `kinds` lists them. `pipeline_file` reads uploads, `run_requests` reads run
requests. `runs` submits jobs to `runner_pool`, whose reports `progress` stores; `runner` executes one run. `schedules`
starts the runs of recurring runs.
"""
