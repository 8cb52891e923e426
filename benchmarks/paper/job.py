"""What every row of the tables is given and what it gives back, so that all run on the same data and the same budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

CONFIGS = Path(__file__).parent / "configs"
ABLATIONS = Path(__file__).parent / "ablations.yaml"


@dataclass(frozen=True)
class Scale:
    """Models, data and sizes of one scale; the same for every row.

    ``models`` are folders or hub ids of the start model by architecture, ``classifier`` the toxicity scorer as
    `PATH#LABEL`, ``oracle_calls`` the completions or rows that training may have scored.
    """

    name: str
    models: Mapping[str, str]
    classifier: str
    bound: float
    steps: int
    batch_size: int
    learning_rate: float
    max_length: int
    max_new_tokens: int
    oracle_calls: int
    toxigen_prompts: int
    rtp_prompts: int
    rtp_samples: int
    choice_questions: int
    choice_shots: int
    seeds: int
    device: str = "cpu"
    bf16: bool = True

    @property
    def scorer(self) -> str:
        """The classifier as a ``--scorer`` flag takes it."""
        return f"toxicity={self.classifier}"


@dataclass(frozen=True)
class Job:
    """One row of a table for one seed: which system, from which start model, on which files, to which folder.

    ``rows`` has the training rows (JSONL: `text`, `domain` toxigen or wikitext), ``prompts`` the prompts that may be
    sampled in training (JSONL: `text`, `domain`; no SafeNLP statement is among them), ``policy`` the policy in one
    line. ``work`` holds a folder per system, architecture and seed; everything a row writes lies in ``folder``.
    """

    scale: Scale
    system: str
    architecture: str
    seed: int
    rows: Path
    prompts: Path
    policy: Path
    work: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def start(self) -> str:
        """Folder or hub id of the start model."""
        return self.scale.models[self.architecture]

    @property
    def folder(self) -> Path:
        """Where this row writes: its model in ``model/``, what it drew and had scored in ``oracle.jsonl``."""
        return self.folder_of(self.system)

    def folder_of(self, system: str) -> Path:
        """The same folder for another system of the same architecture and seed."""
        return self.work / self.architecture / f"{system}-{self.seed}"

    def trained(self, system: str) -> Trained:
        """What another system, which this one starts from, gave back; the runner has finished it before."""
        return Trained.read(self.folder_of(system))


@dataclass(frozen=True)
class Trained:
    """What training a row gave and took.

    ``model`` is a Hugging Face folder with its tokenizer. ``seconds`` is the wall-clock of everything the row needs from
    the start model on, the stage that it shares with another row included (``stages`` says which); ``device_seconds``
    that times the devices (CPU: processes) that worked; ``oracle_calls`` the texts scored; ``tokens`` those that an
    optimizer step saw, samples included; ``guide`` a folder or file that guided decoding reads, or None.
    """

    model: str
    seconds: float
    device_seconds: float
    oracle_calls: int
    steps: int
    tokens: int
    stages: tuple[str, ...] = ()
    guide: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """``trained.json`` in the row's folder, last, as the sign that training ended."""
        write_whole(folder / "trained.json", json.dumps(asdict(self), indent=1))

    @staticmethod
    def read(folder: Path) -> Trained:
        """Inverse of ``write``."""
        record = json.loads((folder / "trained.json").read_text())
        return Trained(**{**record, "stages": tuple(record["stages"])})


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or as it was before, whenever the process ends."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def config_of(system: str) -> dict[str, Any]:
    """``configs/SYSTEM.yaml``: `says` (one sentence for the page), `train` (module:function), `after` (systems that must
    be finished before), `headline` (all seeds and both architectures), `cores` (processor cores it keeps busy, 1 when
    not said), `name` (as the results have it, where another table has it too), `measure` (module:function in place of the
    common one), `prepare` (likewise, what writes the files that it reads), `protocols` (of the common one; all when not
    said), `options` (for the function).

    Rows of the ablations stand in ``ablations.yaml`` instead: what each changes of the options of another system.
    Raises: FileNotFoundError naming the file for a system that has no configuration.
    """
    path = CONFIGS / f"{system}.yaml"
    if path.is_file():
        found: dict[str, Any] = yaml.safe_load(path.read_text())
        return found
    ablations = yaml.safe_load(ABLATIONS.read_text())
    if system not in ablations["rows"]:
        raise FileNotFoundError(
            f"no configuration of the row `{system}`: neither {path.name} in {CONFIGS} nor a row of {ABLATIONS.name}"
        )
    row = ablations["rows"][system]
    whole = config_of(ablations["of"])
    options = {**whole.get("options", {}), **row["options"]}
    return {
        **whole, "headline": False, "says": row["says"], "cores": row.get("cores", 1), "options": options,
        "protocols": ablations["protocols"],
    }  # fmt: skip
