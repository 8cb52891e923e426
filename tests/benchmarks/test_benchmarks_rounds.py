"""The benchmarks that time rounds: the published procedure written anew, and who reaches a level first."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import World

from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.loading import load_model, load_tokenizer

SPEED = Path(__file__).parents[2] / "benchmarks" / "speed"
OFF = torch.autocast("cpu", torch.bfloat16, enabled=False)


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of the folder are found by their plain names, as when a script of it runs."""
    monkeypatch.syspath_prepend(str(SPEED))


def test_completion_sites_are_those_of_every_row_once() -> None:
    procedure = importlib.import_module("research_procedure")
    rows = [
        TokenRow((3, 4), (5, 6, 7), {}, False),
        TokenRow((3,), (8,), {}, False),
        TokenRow((4,), (9, 3), {}, False),
    ]
    seen: dict[int, list[int]] = {}
    for part, ids, mask, inside in procedure.batches(rows, 0, 2, torch.device("cpu")):
        assert inside.shape == (len(part), ids.shape[1] - 1)
        for place, i in enumerate(part):
            seen[i] = ids[place, 1:][inside[place]].tolist()
            assert int(mask[place].sum()) == len(rows[i].ids)
    assert seen == {i: list(row.completion) for i, row in enumerate(rows)}


def test_the_second_network_learns_a_rate_above_a_half_and_the_student_follows_it(world: World) -> None:
    """The published code could not predict more than 0.5; a token that all samples with label 0 hold loses mass."""
    procedure = importlib.import_module("research_procedure")
    base, student = load_model(str(world.model)), load_model(str(world.model))
    base.requires_grad_(False)
    torch.manual_seed(0)
    network = procedure.SecondNetwork(base, 1)
    good, bad = 5, 6
    rows = [TokenRow((3,), (good if i % 4 else bad, 1), {}, False) for i in range(64)]
    labels = [1.0 if i % 4 else 0.0 for i in range(64)]
    losses = [procedure.fit_second_network(network, rows, labels, 0, 8, OFF, 2e-3) for _ in range(8)]
    assert losses[-1] < 0.5 * losses[0]
    ids = torch.tensor([[3]])
    value = network(ids, torch.ones_like(ids))[0, 0].detach().exp()
    assert value[good] > 0.75
    assert value[bad] < 0.4
    before = base(input_ids=ids).logits[0, 0].softmax(-1)
    steps = [procedure.tune_student(student, base, network, rows, 0, 8, OFF, 2e-3) for _ in range(8)]
    assert set(steps) == {8}
    after = student(input_ids=ids).logits[0, 0].detach().softmax(-1)
    assert float(after[bad] / after[good]) < 0.9 * float(before[bad] / before[good])


def test_a_kept_graph_costs_time_and_changes_nothing(world: World) -> None:
    """The described procedure goes back through base and network, too; the student ends at the same weights."""
    procedure = importlib.import_module("research_procedure")
    base = load_model(str(world.model))
    torch.manual_seed(0)
    network = procedure.SecondNetwork(base, 1)
    rows = [TokenRow((3,), (5 + i % 3, 1), {}, False) for i in range(16)]
    before = [p.detach().clone() for p in (*base.parameters(), *network.parameters())]
    ends, reached = [], []
    base.get_output_embeddings().weight.register_hook(lambda gradient: reached.append(keeps))
    for keeps in (True, False):
        student = load_model(str(world.model))
        procedure.tune_student(student, base, network, rows, 0, 8, OFF, 1e-2, keeps_graph=keeps)
        ends.append([p.detach() for p in student.parameters()])
    assert reached == [True, True]  # two steps
    torch.testing.assert_close(*ends)
    torch.testing.assert_close([p.detach() for p in (*base.parameters(), *network.parameters())], before)


def test_runs_of_another_size_or_schedule_stand_beside_each_other() -> None:
    spec = importlib.util.spec_from_file_location(
        "speed_run", SPEED / "run.py"
    )  # `run` is another folder's, too
    assert spec is not None
    assert spec.loader is not None
    run = importlib.util.module_from_spec(spec)
    sys.modules["speed_run"] = run  # its dataclass looks there
    spec.loader.exec_module(run)
    kept = [{"part": "run", "system": f"default, {kind}", "scale": scale, "epochs": epochs, "ratio": scale / epochs}
            for kind in ("sequential", "parallel") for scale in (0.1, 1.0) for epochs in (1, 3)]  # fmt: skip
    assert len({run.measurement(row) for row in kept}) == 8
    assert run.headlines(kept)["run"] == 1.0
    steps = [{"part": "step", "system": "default", "ratio": vocab / 1000, "workload": {"vocab": vocab, "lora_r": 0}}
             for vocab in (128_000, 32_000)]  # fmt: skip
    assert run.measurement(steps[0]) != run.measurement(steps[1])
    assert run.measurement(steps[0]) == run.measurement({**steps[0], "system": "plain (transformers)"})
    assert run.headlines(steps)["step"] == 128.0


def test_samples_of_a_prompt_are_cut_at_their_end(world: World) -> None:
    procedure = importlib.import_module("research_procedure")
    model, tokenizer = load_model(str(world.model)), load_tokenizer(str(world.model))
    prompts = [TokenRow((3, 4), (), {}, False), TokenRow((5,), (), {}, False)]
    rows = procedure.sample_by_prompt(model, tokenizer, prompts, 8, 12)
    assert [row.prompt for row in rows] == [(3, 4)] * 8 + [(5,)] * 8
    assert all(1 <= len(row.completion) <= 12 for row in rows)
    assert all(1 not in row.completion[:-1] for row in rows)
    asked: list[int] = []

    def scores(prompts: Any, completions: Any) -> list[float]:
        asked.append(len(completions))
        return [0.9 if i % 2 else 0.1 for i in range(len(completions))]

    assert procedure.score_by_prompt(rows, tokenizer, scores, 8) == [1.0, 0.0] * 8
    assert asked == [8, 8]


def test_the_first_copy_at_a_level_ends_its_race() -> None:
    race = importlib.import_module("against_grpo")
    own = [(10, 20.0, 100, 0.115), (20, 40.0, 200, 0.09), (30, 60.0, 300, 0.07)]
    other = [(10, 30.0, 80, 0.13), (20, 60.0, 160, 0.11), (30, 90.0, 240, 0.095)]
    keys = ("step", "seconds", "oracle_calls", "violation")
    runs = {
        name: {"copies": [dict(zip(keys, values, strict=True)) for values in copies]}
        for name, copies in {"ours": own, "grpo": other}.items()
    }
    runs["grpo"]["copies"].append({"step": 40, "seconds": 120.0, "oracle_calls": 320})  # not judged
    levels = {entry["level"]: entry for entry in race.races(runs, 50.0)}
    assert levels[0.12]["ours"]["step"] == 10
    assert levels[0.12]["grpo"]["step"] == 20
    assert levels[0.12]["ratio"] == (50.0 + 60.0) / 20.0
    assert levels[0.10]["ratio_stage"] == 90.0 / 40.0
    assert levels[0.10]["ratio_oracle_calls"] == 240 / 200
    assert levels[0.08]["grpo"] is None
    assert "ratio" not in levels[0.08]
