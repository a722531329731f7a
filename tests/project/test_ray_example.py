"""The Ray examples, without a cluster: the scripts are sh, the file for Kubernetes names what a RayJob must have."""

import subprocess
from pathlib import Path

import pytest

RAY = Path(__file__).parents[2] / "examples" / "ray"


@pytest.mark.parametrize("script", sorted(RAY.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_sh(script):
    subprocess.run(["sh", "-n", str(script)], check=True)


def test_a_script_without_arguments_prints_its_usage():
    done = subprocess.run(["sh", str(RAY / "cluster.sh")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "usage: cluster.sh head | worker HEAD | run HEAD\n"


def test_the_job_for_kubernetes_is_yaml_of_the_parts_that_the_operator_requires():
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load((RAY / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert "mcis run --engine ray" in job["spec"]["entrypoint"]
    cluster = job["spec"]["rayClusterSpec"]
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in pods:
        (container,) = pod["template"]["spec"]["containers"]
        (volume,) = pod["template"]["spec"]["volumes"]
        assert container["volumeMounts"][0]["name"] == volume["name"]
