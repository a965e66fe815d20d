"""As much of SLURM as submitit asks for, on one machine: `install(folder)` makes sbatch, srun, sacct and scontrol.

srun starts the tasks with SLURM's variables. A job is told of its end (USR2, as submitit asks) once, when a file matches
FAKE_SLURM_END; scontrol requeue ends its tasks, and srun starts them again.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from glob import glob
from pathlib import Path

JOB = "4242"


def install(folder: Path) -> Path:
    """The commands are in `folder`, which goes in front of PATH."""
    folder.mkdir()
    for name in ("sbatch", "srun", "sacct", "scontrol"):
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {name} "{folder}" "$@"\n')
        command.chmod(0o755)
    return folder


def sbatch(folder: Path, script: str) -> None:
    """The job has begun."""
    said = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", Path(script).read_text(), re.MULTILINE))
    (folder / "asked").write_text(Path(script).read_text())
    nodes, each = int(said["nodes"]), int(said["ntasks-per-node"])
    env = {
        "SLURM_JOB_ID": JOB, "SLURM_JOB_NAME": said["job-name"], "SLURM_NTASKS": str(nodes * each), "SLURM_NTASKS_PER_NODE": str(each),
        "SLURM_NNODES": str(nodes), "SLURM_JOB_NUM_NODES": str(nodes), "SLURM_NODELIST": "localhost", "SLURM_JOB_NODELIST": "localhost",
    }  # fmt: skip
    with (folder / "log").open("w") as log:
        job = subprocess.Popen(["bash", script], env=os.environ | env, stdout=log, stderr=log, start_new_session=True)
    (folder / "pid").write_text(str(job.pid))
    print(f"Submitted batch job {JOB}")


def srun(folder: Path, *words: str) -> None:
    """The tasks have ended, after as many starts as there were requests to start again."""
    command = list(words[words.index(sys.executable) :])
    each = int(os.environ["SLURM_NTASKS_PER_NODE"])
    for start in (0, 1):
        tasks = []
        for rank in range(int(os.environ["SLURM_NTASKS"])):
            env = {
                "SLURM_PROCID": rank,
                "SLURM_LOCALID": rank % each,
                "SLURM_NODEID": rank // each,
                "SLURM_RESTART_COUNT": start,
            }
            env = os.environ | {name: str(value) for name, value in env.items()}
            with (folder / f"{start}-{rank}.log").open("w") as log:
                tasks.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
        told = start > 0
        while any(task.poll() is None for task in tasks) and not (folder / "requeued").exists():
            time.sleep(0.05)
            if not told and glob(os.environ["FAKE_SLURM_END"]):
                told = True
                for task in tasks:
                    task.send_signal(signal.SIGUSR2)
        if not (folder / "requeued").exists():
            return
        (folder / "requeued").rename(folder / "was-requeued")
        for task in tasks:
            with contextlib.suppress(subprocess.TimeoutExpired):
                task.wait(10 if task is tasks[0] else 0.1)
            task.kill()
            task.wait()


def scontrol(folder: Path, *words: str) -> None:
    """`requeue JOB` is noted."""
    assert words == ("requeue", JOB)
    (folder / "requeued").touch()


def sacct(folder: Path, *words: str) -> None:
    """The state of the job."""
    state = Path(f"/proc/{(folder / 'pid').read_text()}/stat")
    runs = state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"
    print(f"JobID|State|NodeList\n{JOB}|{'RUNNING' if runs else 'COMPLETED'}|localhost")


if __name__ == "__main__":
    name, place, *arguments = sys.argv[1:]
    {"sbatch": sbatch, "srun": srun, "scontrol": scontrol, "sacct": sacct}[name](Path(place), *arguments)
