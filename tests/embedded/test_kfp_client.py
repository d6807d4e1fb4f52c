from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.embedded.conftest import HELLO, unique

if TYPE_CHECKING:
    from pathlib import Path

    from kfadapter_embedded.process import EmbeddedKfp

# In a process of its own: importing kfp is slow, warns, prints, and reads the home folder.
PROGRAM = """
import json, sys
import kfp
url, file, name = sys.argv[1:]
client = kfp.Client(host=url)
made = client.upload_pipeline(file, pipeline_name=name, description="hi")
second = client.upload_pipeline_version(file, "2", pipeline_id=made.pipeline_id)
pages, token = [], ""
while True:
    page = client.list_pipeline_versions(made.pipeline_id, page_size=1, page_token=token)
    pages += [each.name for each in page.pipeline_versions]
    token = page.next_page_token
    if not token:
        break
found = {
    "id": client.get_pipeline_id(name) == made.pipeline_id,
    "get": client.get_pipeline(made.pipeline_id).name,
    "listed": name in [each.name for each in client.list_pipelines(page_size=200).pipelines],
    "versions": sorted(pages),
    "version": client.get_pipeline_version(made.pipeline_id, second.pipeline_version_id).name,
    "spec": sorted(client.get_pipeline_version(made.pipeline_id, second.pipeline_version_id).pipeline_spec),
}
for version in client.list_pipeline_versions(made.pipeline_id).pipeline_versions:
    client.delete_pipeline_version(made.pipeline_id, version.pipeline_version_id)
client.delete_pipeline(made.pipeline_id)
found["gone"] = client.get_pipeline_id(name) is None
print("\\n" + json.dumps(found))
"""


def test_kfp_client(kfp: EmbeddedKfp, tmp_path: Path) -> None:
    """The real kfp.Client works unchanged: upload, versions, get, list, delete."""
    name = unique("client")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, kfp.url, str(HELLO), name],
        env={**os.environ, "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "id": True,
        "get": name,
        "listed": True,
        "versions": sorted(["2", name]),
        "version": "2",
        "spec": ["components", "deploymentSpec", "pipelineInfo", "root", "schemaVersion", "sdkVersion"],
        "gone": True,
    }
