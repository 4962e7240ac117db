"""Slurm: a batch script whose every start is an attempt, and which queues itself again.

Or an array, whose every task is a machine of an attempt that the tasks begin among themselves.
"""

import math
import shlex

from launch.job import Job

SCRIPT = "job.sbatch"

# `{{` and `}}` are the shell's own braces.
_JOB = """\
# The first node is where the others meet it. Its address stands in Slurm's own table of nodes.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(scontrol --oneliner show node "$first" | sed -n 's/.* NodeAddr=\\([^ ]*\\).*/\\1/p')
attempt=$({python} -m launch.batch begin {folder} --nodes "$SLURM_JOB_NUM_NODES") || exit "$?"

# The warning before the end of the time, a preemption and a stop reach this shell alone.
trap 'scancel --quiet --signal=TERM "$SLURM_JOB_ID"' TERM

srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 {srun}\\
  bash -c {node} "$attempt" "${{address:-$first}}" &
{wait}
if {python} -m launch.batch end {folder} --attempt "$attempt" --nodes "$SLURM_JOB_NUM_NODES"; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""
_TASK = """\
# Where the others reach this machine, by Slurm's own table of nodes.
own=$SLURMD_NODENAME
address=$(scontrol --oneliner show node "$own" | sed -n 's/.* NodeAddr=\\([^ ]*\\).*/\\1/p')
# The plain number of a job would be, for the last task, that of the whole array.
task="${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"

# The warning before the end of the time, a preemption and a stop reach this shell alone.
trap 'scancel --quiet --signal=TERM "$task"' TERM

srun --ntasks=1 {srun}\\
  {python} -m launch.array {folder} --task "$SLURM_ARRAY_TASK_ID" --host "${{address:-$own}}" &
{wait}
if {python} -m launch.batch again {folder} --task "$SLURM_ARRAY_TASK_ID" --code "$code"; then
  scontrol requeue "$task"
fi
exit "$code"
"""
_WAIT = """\
step=$!
# A signal that is trapped ends `wait`, and not the step.
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do
  code=0
  wait "$step" || code=$?
done
"""


def render(job: Job, folder: str) -> dict[str, str]:
    """Return the batch script for `sbatch`; the machines share `folder`, the job's own."""
    python, place = shlex.quote(job.place.python), shlex.quote(folder)
    node = (
        f'exec {python} -m launch.node {place} --attempt "$0" --nodes "$SLURM_JOB_NUM_NODES" '
        '--node "$SLURM_NODEID" --host "$1"'
    )
    form = _TASK if job.place.is_array else _JOB
    body = form.format(
        python=python, folder=place, srun=container(job), node=shlex.quote(node), wait=_WAIT
    )
    lines = [
        "#!/usr/bin/env bash",
        *options(job, folder),
        "set -uo pipefail",
        *job.place.setup,
    ]
    return {SCRIPT: "\n".join([*lines, body])}


def options(job: Job, folder: str, *, again: bool = True) -> list[str]:
    """Return the lines that sbatch reads; `again`: it may be queued again.

    They name no tasks: with tasks, Slurm gives the fewest machines of a range that hold them.
    """
    place, slurm = job.place, job.place.slurm
    array = place.is_array and again
    least = f"{place.least_nodes}-" if place.least_nodes is not None else ""
    asked = {
        "job-name": job.name,
        "nodes": 1 if array else f"{least}{place.nodes}",
        "array": f"0-{place.nodes - 1}" if array else None,
        "cpus-per-task": place.cpus,
        "gpus-per-node": place.gpus or None,
        "partition": slurm.partition,
        "account": slurm.account,
        "qos": slurm.qos,
        "time": None if place.hours is None else _minutes(place.hours),
        "exclude": ",".join(place.exclude) or None,
        "chdir": place.folder,
        "output": f"{folder}/slurm-{'%A_%a' if array else '%j'}.log",
        "signal": f"B:TERM@{min(65535, max(1, math.ceil(job.grace_seconds)))}",
    }
    lines = [f"#SBATCH --{key}={value}" for key, value in asked.items() if value is not None]
    if again:
        lines += ["#SBATCH --requeue", "#SBATCH --open-mode=append"]
    return lines + [f"#SBATCH {option}" for option in slurm.options]


def _minutes(hours: float) -> str:
    minutes = math.ceil(hours * 60)
    return f"{minutes // 60}:{minutes % 60:02d}:00"


def container(job: Job) -> str:
    """Return the options of srun for the container plug-in, pyxis, with a blank behind them."""
    container = job.place.container
    if container is None:
        return ""
    words = [f"--container-image={container.image}"]
    if container.mounts:
        words.append(f"--container-mounts={','.join(container.mounts)}")
    return shlex.join(words) + " "
