"""Pipelines of any size, in the format of KFP's compiler."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KIB = 1024
"""Bytes in a KiB."""
MIB = 1024 * KIB
"""Bytes in a MiB."""

_SOURCE = "\\n".join(f"    line_{number} = measure(step={number}, text='학습 training')" for number in range(24))
_COMPONENT = """\
  comp-step-{n}:
    executorLabel: exec-step-{n}
    inputDefinitions:
      parameters:
        rate:
          defaultValue: 0.1
          isOptional: true
          parameterType: NUMBER_DOUBLE
"""
_EXECUTOR = """\
    exec-step-{n}:
      container:
        args:
        - --executor_input
        - '{{{{$}}}}'
        - --function_to_execute
        - step_{n}
        command:
        - sh
        - -c
        - "\\ndef step_{n}(rate: float = 0.1):\\n%s\\n"
        image: python:3.11-slim
""".replace("%s", _SOURCE)
_TASK = """\
      step-{n}:
        cachingOptions:
          enableCache: true
        componentRef:
          name: comp-step-{n}
        taskInfo:
          name: step-{n}
"""
_PARTS = (("components:\n", _COMPONENT), ("deploymentSpec:\n  executors:\n", _EXECUTOR))
_ROOT = "pipelineInfo:\n  name: benchmark\nroot:\n  dag:\n    tasks:\n"
_END = "schemaVersion: 2.1.0\nsdkVersion: kfp-2.17.0\n"


def pipeline_text(size: int) -> bytes:
    """Writes a KFP v2 pipeline of exactly `size` bytes, as YAML: steps of about 2 kB each, and a comment as padding."""
    step = sum(len(part.format(n=0).encode()) for part in (_COMPONENT, _EXECUTOR, _TASK)) + 30
    numbers = range(max(1, size // step))
    pieces = [title + "".join(part.format(n=n) for n in numbers) for title, part in _PARTS]
    tasks = "".join(_TASK.format(n=n) for n in numbers)
    text = "".join((*pieces, _ROOT, tasks, _END)).encode()
    return text + b"#" * (size - len(text) - 1) + b"\n"


def pipeline_json(size: int) -> bytes:
    """Writes a KFP v2 pipeline of about `size` bytes as KFP returns it: the same steps as JSON."""
    source = _SOURCE.replace("\\n", "\n")
    rate = {"defaultValue": 0.1, "isOptional": True, "parameterType": "NUMBER_DOUBLE"}
    command = ["sh", "-c", f"\ndef step(rate: float = 0.1):\n{source}\n"]
    container = {"args": ["--executor_input", "{{$}}"], "command": command, "image": "python:3.11-slim"}
    component = {"executorLabel": "exec-step", "inputDefinitions": {"parameters": {"rate": rate}}}
    task = {"cachingOptions": {"enableCache": True}, "taskInfo": {"name": "step"}}
    numbers = range(max(1, size // len(json.dumps([container, component, task], ensure_ascii=False).encode())))
    spec = {
        "components": {f"comp-step-{n}": component for n in numbers},
        "deploymentSpec": {"executors": {f"exec-step-{n}": {"container": container} for n in numbers}},
        "pipelineInfo": {"name": "benchmark"},
        "root": {"dag": {"tasks": {f"step-{n}": task for n in numbers}}},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
    }
    return json.dumps(spec, ensure_ascii=False).encode()


def write_pipeline(folder: Path, size: int) -> Path:
    """Writes such a pipeline to a file in the folder, unless it exists."""
    path = folder / f"{size}.yaml"
    if not path.exists():
        path.write_bytes(pipeline_text(size))
    return path
