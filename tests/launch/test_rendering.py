"""What is handed to each place: the same for the same job, as the golden files have it.

`python -m tests.launch.test_rendering` writes them anew; look at what changed before you keep it.
"""

import subprocess
import time
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from launch.job import Job
from launch.preflight.rendering import render as preflight
from launch.rendering import difference, render
from trawl import recipe

GOLDEN = Path(__file__).parent / "golden"
FOLDER = "/shared/jobs/oscar-base"
_JOBS = """\
local:
  place: {processes: 2, setup: [module load cuda]}
  secrets: [{variable: AWS_SECRET_ACCESS_KEY, file: /run/secrets/s3 key}]
slurm:
  place:
    backend: slurm
    nodes: 4
    least_nodes: 2
    gpus: 8
    hours: 23.5
    python: /opt/trawl/bin/python
    folder: /shared/work
    exclude: [node7, node9]
    container: {image: "example.org/trawl:1", mounts: ["/data:/data:ro"]}
    slurm: {partition: gpu, account: vision, options: ["--constraint=h200"]}
  secrets: [{variable: AWS_SECRET_ACCESS_KEY, file: /run/secrets/s3}]
array:
  run: {corpus: web-demo, changes: ["out=/shared/corpora/web"]}
  place:
    backend: slurm
    nodes: 16
    cpus: 32
    hours: 4
    python: /opt/trawl/bin/python
    container: {image: "example.org/trawl:1"}
    slurm: {partition: cpu, array: true}
ssh:
  place:
    backend: ssh
    nodes: 2
    gpus: 8
    folder: /shared/work here
    ssh: {hosts: [trainer@host1, host2], options: [-p, "2222"], interface: eth1}
  secrets: [{variable: AWS_SECRET_ACCESS_KEY, file: /run/secrets/s3}]
kubernetes:
  place:
    backend: kubernetes
    nodes: 4
    gpus: 8
    cpus: 96
    container: {image: "example.org/trawl:1"}
    exclude: [node7]
    kubernetes: {namespace: vision, claims: {/data: corpora}, queue: gpus}
  secrets: [{variable: AWS_SECRET_ACCESS_KEY, kubernetes: s3/key}]
jobset:
  place:
    backend: kubernetes
    nodes: 4
    gpus: 8
    container: {image: "example.org/trawl:1"}
    kubernetes: {kind: jobset, claims: {/var/lib/trawl: state}}
ray:
  run: {corpus: web-demo, changes: ["out=s3://corpora/web"]}
  place:
    backend: ray
    nodes: 3
    least_nodes: 2
    container: {image: "example.org/trawl:1"}
  secrets: [{variable: AWS_SECRET_ACCESS_KEY, kubernetes: s3/key}]
evaluation:
  run: {evaluate: {target: "s3://releases/oscar@3", corpus: "s3://corpora/held out", out: e.json}}
  place: {backend: slurm, gpus: 1}
ray-jobs:
  run: {corpus: web-demo, changes: ["out=s3://corpora/web"]}
  place: {backend: ray, ray: {address: "http://head:8265"}}
"""
COMMON = {"name": "oscar-base", "run": {"pretrain": "oscar-base", "changes": ["seed=1"]}}
JOBS = {name: COMMON | content for name, content in yaml.safe_load(_JOBS).items()}


_ARRAY = {"backend": "slurm", "slurm": {"array": True}}


def rendered(name: str) -> str:
    texts = render(Job.model_validate(JOBS[name]), FOLDER)
    return "".join(f"## {file}\n{text}" for file, text in texts.items())


@pytest.mark.parametrize("name", JOBS)
def test_a_job_renders_as_its_golden_file(name: str) -> None:
    assert rendered(name) == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", ["local", "slurm", "array"])
def test_scripts_are_shell(name: str, tmp_path: Path) -> None:
    for text in render(Job.model_validate(JOBS[name]), FOLDER).values():
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_a_preflight_is_rendered_like_its_job() -> None:
    texts = {
        name: "".join(preflight(Job.model_validate(JOBS[name]), FOLDER).values()) for name in JOBS
    }
    for name, text in texts.items():
        assert "launch.preflight.node" in text, name
        assert "launch.node" not in text, name
    subprocess.run(["bash", "-n"], input=texts["slurm"], text=True, check=True)
    assert "#SBATCH --time=0:20:00" in texts["slurm"]
    assert "requeue" not in texts["slurm"]
    assert "--nodes 2 --node 1 --host host1 --name host2" in texts["ssh"]
    for name in ("kubernetes", "jobset", "ray"):
        machines = [found for found in yaml.safe_load_all(texts[name]) if found]
        assert {found["metadata"]["name"] for found in machines} == {"oscar-base-preflight"}
        assert texts[name].count("fieldPath: spec.nodeName") == 1


def test_a_thousand_machines_are_rendered_within_a_second() -> None:
    hosts = [f"host{number}" for number in range(1000)]
    for name in JOBS:
        place = {**JOBS[name]["place"], "nodes": 1000}
        if name in ("local", "evaluation") or "address" in place.get("ray", {}):
            continue
        if name == "ssh":
            place["ssh"] = {"hosts": hosts}
        job = Job.model_validate(JOBS[name] | {"place": place})
        began = time.process_time()
        texts = render(job, FOLDER)
        assert time.process_time() - began < 1.0
        assert any("1000" in text or "999" in text for text in texts.values())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"place": {"nodes": 2}}, "choose a backend"),
        ({"place": {"backend": "ssh", "nodes": 2, "ssh": {"hosts": ["a"]}}}, "ssh.hosts: 1 for 2"),
        ({"place": {"backend": "kubernetes"}}, "container.image"),
        ({"place": {"backend": "ray"}}, "ray.address"),
        ({"place": {"backend": "slurm", "nodes": 2, "least_nodes": 3}}, "least_nodes 3"),
        ({"place": _ARRAY | {"nodes": 2}}, "for corpus builds"),
        ({"place": _ARRAY}, "nodes of 2 or more"),
        ({"place": _ARRAY | {"nodes": 2, "least_nodes": 1}}, "no least_nodes"),
        ({"secrets": [{"variable": "A", "kubernetes": "s/k"}]}, "local takes file"),
        ({"secrets": [{"variable": "A B", "file": "/a"}]}, "no name of an environment variable"),
        ({"secrets": [{"variable": "A", "file": "/a", "value": "hush"}]}, "Extra inputs"),
        ({"run": {"pretrain": "a", "corpus": "b"}}, "exactly one"),
        ({"run": {"evaluate": "a", "changes": ["b=1"]}}, "an evaluation takes none"),
        (
            {
                "run": {"evaluate": "a"},
                "place": {"backend": "ssh", "nodes": 2, "ssh": {"hosts": ["a", "b"]}},
            },
            "one machine does an evaluation",
        ),
    ],
)
def test_a_job_that_cannot_run_is_refused(content: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Job.model_validate(COMMON | content)


def test_a_secret_is_in_no_text(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush-hush")
    named = {"secrets": [{"variable": "TOKEN", "file": str(secret)}]}
    for name in ("local", "slurm", "ssh"):
        texts = render(Job.model_validate(JOBS[name] | named), FOLDER)
        assert "hush-hush" not in "".join(texts.values())


def test_the_difference_to_the_last_submission_is_told(tmp_path: Path) -> None:
    job = Job.model_validate(JOBS["slurm"])
    assert "+#SBATCH --nodes=2-4\n" in difference(job, tmp_path)
    (tmp_path / "job.yaml").write_text(recipe.dump(job))
    assert difference(job, tmp_path) == ""
    wider = job.model_copy(update={"place": job.place.model_copy(update={"nodes": 6})})
    told = difference(wider, tmp_path)
    assert "-#SBATCH --nodes=2-4\n+#SBATCH --nodes=2-6\n" in told
    assert "-  nodes: 4\n+  nodes: 6\n" in told


def main() -> None:
    """Write the golden files anew."""
    for name in JOBS:
        (GOLDEN / f"{name}.txt").write_text(rendered(name))


if __name__ == "__main__":
    main()
