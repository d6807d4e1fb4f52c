from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.embedded.conftest import HELLO
from tests.embedded.serving import serving

from kfadapter_embedded.execution import State, TaskReport

if TYPE_CHECKING:
    from pathlib import Path

    from kfadapter_embedded.process import EmbeddedKfp

# In processes of their own: importing kfp is slow, warns, prints, and reads the home folder.
CONTROL = """
import json, sys
import kfp
url, file = sys.argv[1:]
client = kfp.Client(host=url)
experiment = client.create_experiment("실험", description="설명")
again = client.create_experiment("실험")
made = client.upload_pipeline(file, pipeline_name="p")
version = client.list_pipeline_versions(made.pipeline_id).pipeline_versions[0].pipeline_version_id
here = dict(pipeline_id=made.pipeline_id, version_id=version)
run = client.run_pipeline(experiment.experiment_id, "하나", params={"recipient": "서울"}, **here)
sent = client.run_pipeline(experiment.experiment_id, "둘", pipeline_package_path=file, enable_caching=False)
recurring = client.create_recurring_run(experiment.experiment_id, "매일", cron_expression="0 0 4 * * *", **here)
client.disable_recurring_run(recurring.recurring_run_id)
found = {
    "experiment": again.experiment_id == experiment.experiment_id,
    "experiments": sorted(each.display_name for each in client.list_experiments().experiments),
    "state": client.get_run(run.run_id).state,
    "parameters": client.get_run(run.run_id).runtime_config.parameters,
    "caching": client.get_run(sent.run_id).pipeline_spec["root"]["dag"]["tasks"]["greet"]["cachingOptions"],
    "runs": [each.display_name for each in client.list_runs("", 10, "name", experiment.experiment_id).runs],
    "recurring": client.get_recurring_run(recurring.recurring_run_id).status,
    "trigger": client.list_recurring_runs().recurring_runs[0].trigger.cron_schedule.cron,
}
client.enable_recurring_run(recurring.recurring_run_id)
client.delete_recurring_run(recurring.recurring_run_id)
client.terminate_run(run.run_id)
found["terminated"] = client.get_run(run.run_id).state
client.archive_run(run.run_id)
found["archived"] = client.get_run(run.run_id).storage_state
client.unarchive_run(run.run_id)
client.archive_experiment(experiment.experiment_id)
client.unarchive_experiment(experiment.experiment_id)
client.delete_run(run.run_id)
client.delete_experiment(experiment.experiment_id)
found["left"] = [each.display_name for each in client.list_runs().runs]
print("\\n" + json.dumps(found))
"""
FUNCTION = """
import json, sys
from kfp import Client, dsl

@dsl.component
def greet(name: str) -> str:
    print("말하기", name)
    return "안녕 " + name

@dsl.pipeline(name="greeting")
def greeting(name: str = "세계"):
    greet(name=name)

result = Client(host=sys.argv[1]).create_run_from_pipeline_func(greeting, arguments={"name": "서울"}, run_name="인사")
run = Client(host=sys.argv[1]).wait_for_run_completion(result.run_id, timeout=60, sleep_duration=1)
tasks = {task.display_name: task.state for task in run.run_details.task_details}
print("\\n" + json.dumps([run.run_id, run.state, run.display_name, tasks, run.pipeline_spec["pipelineInfo"]["name"]]))
"""


def client(folder: Path, program: str, *arguments: str) -> object:
    """Runs a program; returns what its last line says."""
    (folder / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "program.py", *arguments],
        env={**os.environ, "HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_control(tmp_path: Path) -> None:
    """The real kfp.Client works unchanged: experiments, runs and recurring runs."""
    with serving(tmp_path) as server:
        found = client(tmp_path, CONTROL, server.url, str(HELLO))
    assert found == {
        "experiment": True,
        "experiments": ["Default", "실험"],
        "state": "PENDING",
        "parameters": {"recipient": "서울"},
        "caching": {},
        "runs": ["둘", "하나"],
        "recurring": "DISABLED",
        "trigger": "0 0 4 * * *",
        "terminated": "CANCELING",
        "archived": "ARCHIVED",
        "left": ["둘"],
    }


def test_function(tmp_path: Path) -> None:
    """A pipeline function is run by the real kfp.Client, which waits for its end."""
    with serving(tmp_path) as server:
        server.executor.playing = [
            TaskReport("greet", State.RUNNING),
            TaskReport("greet", State.SUCCEEDED),
        ]
        found = client(tmp_path, FUNCTION, server.url)
        assert isinstance(found, list)
        assert server.executor.jobs[0].parameters == {"name": "서울"}
    assert found[1:] == [
        "SUCCEEDED",
        "인사",
        dict.fromkeys(("root-driver-dag", "greet", "greet-driver"), "SUCCEEDED"),
        "greeting",
    ]


@pytest.mark.slow
def test_function_that_is_executed(kfp: EmbeddedKfp, tmp_path: Path) -> None:
    """The same executes it, in the embedded KFP's own process."""
    found = client(tmp_path, FUNCTION, kfp.url)
    assert isinstance(found, list)
    assert found[1] == "SUCCEEDED"
