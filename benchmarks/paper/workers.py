"""Runs tasks in processes of their own, a few at a time, each after those it needs; what fails holds up only its dependants."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
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
    tasks: Sequence[Task], finished: set[str], places: int, tell: Callable[[str], None]
) -> list[Failure]:
    """Run the tasks that are not in ``finished``; returns those that failed or could not be started.

    Takes the first task in order that is ready and fits into the free places; one that wants more places than there
    are runs alone. On an interrupt the processes are ended, and a later run goes on from what they finished.
    """
    waiting = [task for task in tasks if task.key not in finished]
    done, failed = set(finished), dict[str, str]()
    running: dict[str, tuple[Task, subprocess.Popen[bytes], float]] = {}
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
                    running[task.key] = (task, _start(task), time.monotonic())
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


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Of a task: one thread, and the code of this checkout."""
    path = os.pathsep.join([*(str(ROOT / package) for package in PACKAGES), given.get("PYTHONPATH", "")])
    return {**given, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": path.rstrip(os.pathsep)}  # fmt: skip


def _start(task: Task) -> subprocess.Popen[bytes]:
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with task.log.open("ab") as log:
        log.write(f"\n$ {' '.join(task.command)}\n".encode())
        log.flush()
        return subprocess.Popen(
            task.command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment(os.environ)
        )  # fmt: skip


def python(script: str, *words: str) -> tuple[str, ...]:
    """The command of a script of this folder."""
    return (sys.executable, str(Path(__file__).parent / script), *words)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "nothing in its log"
