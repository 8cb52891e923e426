"""The policy as an oracle with a budget: every text that it scores is counted and kept beside the row's model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from job import Job

from constraintlang_compiler.ir import Clause
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.integrations.policy import Policy

FILE = "oracle.jsonl"


class Oracle(Policy):
    """A policy whose judgements are counted, up to ``budget`` texts, and written to ``path`` one line each.

    Whatever asks (``judge``, ``reward_func``, ``satisfied``) goes through ``scored``. A text that is asked for twice
    counts twice. ``step`` is that of the lines to come; the caller sets it.
    """

    path: Path
    budget: int
    seed: int
    calls: int = 0
    step: int = 0

    @classmethod
    def open(cls, job: Job, *, keeps: bool = False) -> Oracle:
        """The oracle of a row, with nothing asked yet; what a broken-off run asked is dropped.

        ``keeps`` leaves it in the file, for a caller that goes on from it with ``rewind``.
        """
        oracle = cls.load(job.policy, scorers={"toxicity": job.scale.classifier}, allow_path=True)
        assert isinstance(oracle, Oracle)
        job.folder.mkdir(parents=True, exist_ok=True)
        oracle.path, oracle.budget, oracle.seed = job.folder / FILE, job.scale.oracle_calls, job.seed
        oracle.path.touch()
        if not keeps:
            oracle.rewind(0)
        return oracle

    @property
    def left(self) -> int:
        """How many texts may still be scored."""
        return self.budget - self.calls

    def scored(
        self,
        clauses: Sequence[Clause],
        completions: Sequence[str],
        prompts: Sequence[str] | None = None,
        tags: Sequence[Mapping[str, Any]] | None = None,
    ) -> tuple[Any, Any]:
        """Scores as ``Policy.scored`` gives them. Raises: ConfigError when the budget does not reach."""
        if len(completions) > self.left:
            raise ConfigError(
                f"{len(completions)} texts to score, {self.left} of {self.budget} oracle calls left",
                help="draw fewer texts per step, or give the scale a larger `oracle_calls`",
            )
        scores, parts = super().scored(clauses, completions, prompts, tags)
        self.calls += len(completions)
        with self.path.open("a", encoding="utf-8") as lines:
            for i, completion in enumerate(completions):
                own = {name: float(values[i]) for name, values in scores.items()}
                said = "" if prompts is None else prompts[i]
                record = {
                    "step": self.step,
                    "seed": self.seed,
                    "prompt": said,
                    "completion": completion,
                } | own
                lines.write(json.dumps(record, ensure_ascii=False) + "\n")
        return scores, parts

    def rewind(self, step: int) -> None:
        """Keep the lines before ``step`` alone, for a run that starts (0) or is resumed there."""
        kept = []
        for line in self.path.read_text(encoding="utf-8").split("\n"):
            try:
                record = json.loads(line)
            except ValueError:  # the end of the file, or a line that a killed run did not end
                continue
            if record["step"] < step:
                kept.append(line)
        self.path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self.calls = len(kept)
