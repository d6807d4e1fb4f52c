"""A secret and a volume of Kubernetes. Needs kfp-kubernetes to compile, and a cluster to run.

`secret_and_volume.yaml` is compiled from it:
kfp dsl compile --py examples/secret_and_volume.py --output examples/secret_and_volume.yaml
"""
# The source of each component travels alone, so its imports stand inside, and paths come as text.
# ruff: noqa: PLC0415, PTH123

from kfp import dsl

try:
    from kfp import kubernetes
except ImportError:
    raise ImportError("kfp-kubernetes is missing: pip install kfp-kubernetes") from None


@dsl.component(base_image="python:3.11-slim")
def fetch(rows: int) -> None:
    """Uses a password, which Kubernetes keeps, and writes into the volume."""
    import os

    if not os.environ["DATA_PASSWORD"]:
        raise ValueError("the password is empty")
    with open("/data/rows.txt", "w") as file:
        file.writelines(f"{row}\n" for row in range(rows))


@dsl.component(base_image="python:3.11-slim")
def count() -> int:
    """Reads what the step before has left in the volume."""
    with open("/data/rows.txt") as file:
        return len(file.readlines())


@dsl.pipeline(name="secret-and-volume", description="Fetches with a password from a secret, into a volume of its own.")
def secret_and_volume(rows: int = 100, size: str = "1Gi") -> int:
    """Makes a volume, fetches into it, counts, deletes the volume.

    Args:
        rows: How many rows are fetched.
        size: How large the volume is.
    """
    volume = kubernetes.CreatePVC(pvc_name_suffix="-rows", access_modes=["ReadWriteOnce"], size=size)
    fetched = fetch(rows=rows)
    kubernetes.use_secret_as_env(fetched, secret_name="data-source", secret_key_to_env={"password": "DATA_PASSWORD"})  # noqa: S106
    counted = count().after(fetched)
    for task in (fetched, counted):
        kubernetes.mount_pvc(task, pvc_name=volume.outputs["name"], mount_path="/data")
    kubernetes.DeletePVC(pvc_name=volume.outputs["name"]).after(counted)
    return counted.output
