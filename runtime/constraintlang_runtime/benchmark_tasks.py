"""Benchmarks of lm-eval, by name or from a folder of task files, run on a model that is in memory."""

from __future__ import annotations

import contextlib
import copy
import difflib
import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constraintlang_runtime.errors import ConfigError, DataError

Progress = Callable[[str, int, int], None]
EXTRA = "lm-eval"
FEWSHOT_SEED = 1234  # lm-eval's own
REQUESTS = ("loglikelihood", "loglikelihood_rolling", "generate_until")


@dataclass(frozen=True)
class TaskSettings:
    """Which benchmarks, with how many worked examples before each question, on how many questions.

    ``task_path`` is a folder of lm-eval's YAML files; without ``tasks`` all of them are run. Such a file may name
    Python functions, which are run: it is trusted like a program. ``num_fewshot`` None is each task's own number.
    """

    tasks: tuple[str, ...] = ()
    task_path: str | None = None
    num_fewshot: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers, and that none is given for nothing."""
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise ConfigError(f"got {self.num_fewshot}, expected at least 0", parameter="num_fewshot")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"got {self.limit}, expected at least 1 question", parameter="limit")
        for name in ("num_fewshot", "limit"):
            if getattr(self, name) is not None and not self:
                raise ConfigError(
                    "no benchmark is named", help="add --tasks NAME or --task_path DIR", parameter=name
                )

    def __bool__(self) -> bool:
        return bool(self.tasks) or self.task_path is not None


@dataclass(frozen=True)
class Benchmarks:
    """Tasks that were found, ready to be run."""

    names: tuple[str, ...]
    manager: Any
    settings: TaskSettings

    @staticmethod
    def find(settings: TaskSettings) -> Benchmarks:
        """Look the tasks up; nothing of them is read yet.

        Raises: ConfigError without lm-eval, for a task that it does not know, or a folder without tasks.
        """
        try:
            from lm_eval.tasks import TaskManager
        except ImportError as error:
            raise ConfigError(
                f"--tasks needs the package lm_eval, which is not installed ({error})",
                help=f"pip install 'constraintlang[{EXTRA}]'",
            ) from error
        manager: Any = None
        with _quiet():
            if settings.task_path is not None:
                if not Path(settings.task_path).is_dir():
                    raise ConfigError(f"`{settings.task_path}` is not a folder", parameter="task_path")
                manager = TaskManager(include_path=settings.task_path, include_defaults=False)
                own = tuple(manager.all_subtasks)
                if not own:
                    raise ConfigError(
                        f"no task of lm-eval stands in `{settings.task_path}`",
                        help="give a folder with .yaml files that have a `task`",
                        parameter="task_path",
                    )
                if not settings.tasks:
                    return Benchmarks(own, manager, settings)
            if manager is None or not set(settings.tasks) <= set(manager.all_tasks):
                manager = TaskManager(include_path=settings.task_path)
        for name in settings.tasks:
            if name not in manager.all_tasks:
                close = difflib.get_close_matches(name, manager.all_tasks, n=3)
                raise ConfigError(
                    f"lm-eval has no task `{name}`",
                    help=f"similar names: {', '.join(close)}"
                    if close
                    else "`lm-eval ls tasks` lists the names; --task_path DIR adds your own",
                    parameter="tasks",
                )
        return Benchmarks(tuple(dict.fromkeys(settings.tasks)), manager, settings)

    def run(
        self, model: Any, tokenizer: Any, *, batch_size: int, progress: Progress | None = None
    ) -> dict[str, dict[str, Any]]:
        """What lm-eval's ``evaluate`` returns for each name, answers to single questions included.

        The same as its ``simple_evaluate``, without the git, pip and hub calls that it makes to describe the machine.
        Worked examples are chosen as lm-eval chooses them, so that figures compare with published ones.
        Raises: DataError when the questions cannot be had.
        """
        import lm_eval
        from lm_eval.models.huggingface import HFLM

        was_training = model.training
        found: dict[str, dict[str, Any]] = {}
        with _quiet():
            # it gives the tokenizer a pad token, which is not ours to change
            wrapped = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size)
            for request in REQUESTS:  # bars of its own would mix with ours
                setattr(wrapped, request, functools.partial(getattr(wrapped, request), disable_tqdm=True))
            for number, name in enumerate(self.names):
                try:
                    loaded = self._load(name)
                    results = lm_eval.evaluate(wrapped, loaded, limit=self.settings.limit)
                except (OSError, ValueError, KeyError) as error:
                    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                    raise DataError(
                        f"`{name}` cannot be run: {reason}",
                        help="without a network only tasks over local files or the cache of `datasets` can be run",
                        parameter="tasks",
                    ) from error
                assert results is not None  # one process
                found[name] = dict(results)
                if progress is not None:
                    progress("benchmarks", number + 1, len(self.names))
        model.train(was_training)
        return found

    def _load(self, name: str) -> Any:
        """The tasks of a name with their number of worked examples; a task that fixes it at 0 keeps it."""
        loaded = self.manager.load([name])
        for task in loaded["tasks"].values():
            fixed = task.get_config("num_fewshot")
            if self.settings.num_fewshot is not None and fixed != 0:
                task.set_config(key="num_fewshot", value=self.settings.num_fewshot)
            elif fixed is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=FEWSHOT_SEED)
        return loaded


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval's log of every step stays out of ours; its errors are raised."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
