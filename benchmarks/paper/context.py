"""A scale with its folders: the files that all rows read, and the job of each row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data import Files, prepare
from job import Job, config_of
from plan import Row
from scales import POLICY, Setting, setting_of


@dataclass(frozen=True)
class Context:
    """Everything that a row is given, but which row it is."""

    setting: Setting
    files: Files
    shared: Path
    work: Path

    @classmethod
    def of(cls, scale: str, shared: Path, work: Path) -> Context:
        """The context of a scale below ``work``/SCALE, its training files written when they are missing."""
        shared, work = shared.resolve(), (work / scale).resolve()
        return cls(setting_of(scale, shared, work), prepare(POLICY, shared, work / "data"), shared, work)

    def job(self, row: Row) -> Job:
        """The job of a row."""
        return Job(
            self.setting.scale, row.system, row.architecture, row.seed, self.files.rows, self.files.prompts,
            self.files.policy, self.work, config_of(row.system).get("options") or {},
        )  # fmt: skip
