"""Runs tasks in processes of their own, a few at a time, each after those it needs; what fails holds up only its dependants."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("constraintlang", "compiler", "runtime", "policies")
SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class Task:
    """A command with its log; ``needs`` are keys of other tasks, ``cores`` the places that it takes."""

    key: str
    command: tuple[str, ...]
    log: Path
    needs: tuple[str, ...] = ()
    cores: int = 1


@dataclass(frozen=True)
class Failure:
    """A task that did not finish, and why."""

    key: str
    why: str


def run_all(
    tasks: Sequence[Task], finished: set[str], places: int, tell: Callable[[str], None], *,
    ready: Collection[str] = (), gpus: Sequence[str] = (), inherited: Sequence[int] = (),
) -> list[Failure]:  # fmt: skip
    """Run the tasks that are not in ``finished``; returns those that failed or could not be started.

    Tasks in ``ready`` have still to run, but what others need of them is there.

    Takes the first task in order that is ready and fits into the free places; one that wants more places than there
    are runs alone. Each has one of ``gpus``, that on which the fewest run: on several transformers would put a replica on
    each and multiply the batch. ``inherited`` are descriptors that stay open in the processes, as a lock that holds while one
    of them runs. On an interrupt the processes are ended, and a later run goes on from what they finished.
    """
    waiting = [task for task in tasks if task.key not in finished]
    done, failed = {*finished, *ready}, dict[str, str]()
    running: dict[str, tuple[Task, subprocess.Popen[bytes], float]] = {}
    placed: dict[str, str | None] = {}  # the GPU of each task that was started
    known = {task.key for task in tasks} | done
    try:
        while waiting or running:
            for key, (task, process, started) in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[key]
                seconds = time.monotonic() - started
                if code == 0:
                    done.add(key)
                    tell(f"finished {key} in {seconds:.0f} s ({len(waiting) + len(running)} left)")
                else:
                    failed[key] = (
                        f"exit code {code} after {seconds:.0f} s: {_last_line(task.log)} (log: {task.log})"
                    )
                    tell(f"FAILED {key}: {failed[key]}")
            for task in list(waiting):
                lost = [key for key in task.needs if key in failed or key not in known]
                if lost:
                    waiting.remove(task)
                    failed[task.key] = f"not run, it needs {', '.join(lost)}"
                    tell(f"FAILED {task.key}: {failed[task.key]}")
                    continue
                wanted = min(task.cores, places)
                free = places - sum(min(one.cores, places) for one, _, _ in running.values())
                if all(key in done for key in task.needs) and wanted <= free:
                    waiting.remove(task)
                    tell(f"start {task.key} (log: {task.log})")
                    busy = [placed[key] for key in running]
                    placed[task.key] = gpu = min(gpus, key=busy.count, default=None)
                    running[task.key] = (task, _start(task, gpu, inherited), time.monotonic())
            if not running and waiting and not any(all(k in done for k in t.needs) for t in waiting):
                for task in waiting:
                    if not any(key in failed for key in task.needs):
                        failed[task.key] = f"not run, it needs {', '.join(task.needs)}"
                waiting = [task for task in waiting if task.key not in failed]
                continue
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        for _, process, _ in running.values():
            process.terminate()
        for _, process, _ in running.values():
            process.wait()
    return [Failure(key, why) for key, why in failed.items()]


def visible_gpus(given: Mapping[str, str], count: int) -> list[str]:
    """The names of the ``count`` GPUs that torch sees: those that the caller left visible, else their numbers."""
    named = given.get("CUDA_VISIBLE_DEVICES")
    names = [str(n) for n in range(count)] if named is None else [name.strip() for name in named.split(",")]
    return names[:count]


def environment(given: Mapping[str, str], gpu: str | None = None) -> dict[str, str]:
    """Of a task: one thread, the code of this checkout, and no GPU but its own where it has one."""
    path = os.pathsep.join([*(str(ROOT / package) for package in PACKAGES), given.get("PYTHONPATH", "")])
    seen = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
    return {**given, **seen, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": path.rstrip(os.pathsep)}  # fmt: skip


def _start(task: Task, gpu: str | None, inherited: Sequence[int]) -> subprocess.Popen[bytes]:
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with task.log.open("ab") as log:
        log.write(f"\n$ {' '.join(task.command)}\n".encode())
        log.flush()
        return subprocess.Popen(
            task.command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=environment(os.environ, gpu), pass_fds=tuple(inherited),
        )  # fmt: skip


def python(script: str, *words: str) -> tuple[str, ...]:
    """The command of a script of this folder."""
    return (sys.executable, str(Path(__file__).parent / script), *words)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "nothing in its log"
