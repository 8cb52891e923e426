"""Where two features meet: chat and masks, a sampling server and checkpoints, a dry run and late settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_vllm import FakeVllm, serving
from tiny_chat import PLAIN, chat_tokenizer, write_chat_world
from tiny_models import World
from tiny_trainer import compiled, make

from constraintc.main import main
from constraintlang_runtime import ConstraintCallback, Policy, row_losses
from constraintlang_runtime.data import TokenRow, collate, prediction_sites
from constraintlang_runtime.errors import ConfigError, RuntimeFailure
from constraintlang_runtime.generation import DecodingSettings
from constraintlang_runtime.hard_masks import hard_masks
from constraintlang_runtime.integrations import guide
from constraintlang_runtime.schedule.parallel import PENDING_FILE
from constraintlang_runtime.scorers.binding import bind_scorers
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.settings import ConstraintSettings

ASKS = 'edition 1\nattribute asks: flag { backend = regex(re"box") }\nasked: always asks\n'
Captured = pytest.CaptureFixture[str]


# ------------------------------------------------------------ chat and the tokens that end a turn
@pytest.mark.parametrize("special", [True, False])
def test_masks_forbid_the_end_of_a_turn_as_the_end_of_a_text(special: bool) -> None:
    tokenizer = chat_tokenizer(PLAIN, special=special)
    end, turn, red, box = (tokenizer.convert_tokens_to_ids(t) for t in ("<end>", "<|im_end|>", "red", "box"))
    policy = compiled(ASKS)
    pool = ScoringPool(policy.ir.attributes, bind_scorers(policy.ir, {}, folder=Path()))
    masks, _ = hard_masks(policy, policy.ir.clauses, tokenizer, pool)
    assert masks is not None
    batch = collate([TokenRow((red,), (red, box, red, turn), {}, False)], 0)
    found = masks.along(batch, prediction_sites(batch.region)).forbidden(slice(0, 4), len(tokenizer))
    for token in (end, turn):
        assert found[:, token].tolist() == [True, True, False, False]


def test_an_answer_is_right_whatever_its_end_token(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = chat_tokenizer(PLAIN)
    end, turn, red = (tokenizer.convert_tokens_to_ids(t) for t in ("<end>", "<|im_end|>", "red"))
    seen: list[tuple[int, ...]] = []

    def predictions(model: Any, tokenizer: Any, rows: Any, batch_size: int) -> Any:
        seen.extend(row.completion for row in rows)
        return iter(())

    monkeypatch.setattr(row_losses, "_predictions", predictions)
    rows = [TokenRow((red,), said, {}, False) for said in ((red, turn), (red, end), (red, red))]
    row_losses.row_answers(None, tokenizer, rows)
    assert seen == [(red,), (red,), (red, red)]


def test_a_criterion_knows_the_end_of_a_turn() -> None:
    never = 'edition 1\nattribute asks: flag { backend = regex(re"box") }\nquiet: always not asks\n'
    tokenizer = chat_tokenizer(PLAIN)
    end, turn, red, box = (tokenizer.convert_tokens_to_ids(t) for t in ("<end>", "<|im_end|>", "red", "box"))
    stopping = Policy.from_text(never).stopping_criteria(tokenizer)
    for last, stops in ((end, False), (turn, False), (red, True)):  # what follows an end fills the batch up
        ids = [red, red, red, last, box, red]
        said = [stopping(torch.tensor([ids[:length]]), None).tolist() for length in range(3, 7)]
        assert said[-1] == [stops]


def test_a_guide_is_fitted_to_the_turns_that_it_steers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    world = write_chat_world(tmp_path, PLAIN)
    encoded: list[Any] = []
    original = guide.encode_rows

    def encode(*args: Any, **options: Any) -> Any:
        found = original(*args, **options)
        encoded.extend(found)
        return found

    monkeypatch.setattr(guide, "encode_rows", encode)
    (tmp_path / "p.policy").write_text(
        'edition 1\nattribute grey: flag { backend = regex(re"grey") }\nk: not grey under tolerance=5%\n'
    )
    flags = ["--policy", str(tmp_path / "p.policy"), "--prompt", "small box", "--max_new_tokens", "4", "--chat",
             "--decoding", "guided", "--guide_rounds", "0", "--anchor_samples", "24", "--auxiliary_steps", "3",
             "--control_samples", "8", "--set_point_share", "0.5"]  # fmt: skip
    assert main(["generate", "--model", str(world.model), *flags]) in (0, 1), capsys.readouterr().err
    tokenizer = chat_tokenizer(PLAIN)
    (row,) = encoded
    assert tokenizer.convert_tokens_to_ids("assistant") in row.prompt


# ------------------------------------------------------------ a sampling server, checkpoints and lanes
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # in peft
@pytest.mark.parametrize("schedule", ["sequential", "parallel"])
def test_the_server_samples_for_the_choice_of_a_checkpoint(
    world: World, tmp_path: Path, schedule: str
) -> None:
    with serving(FakeVllm(world.model)) as fake:
        changes = {"lora_r": 2, "anchor": "start", "sampler": "vllm", "sampler_url": fake.url, "schedule": schedule,
                   "anchor_samples": 24, "control_samples": 8, "max_new_tokens": 6, "keep": "best",
                   "selection_prompts": 10, "save_steps": 3}  # fmt: skip
        assert main(["train", *world.flags(tmp_path / "out", **changes)]) == 0
        found = json.loads((tmp_path / "out" / "constraint" / "run.json").read_text())["selection"]
        judged = sum(clause["samples"] for record in found for clause in record["clauses"])
        assert [record["step"] for record in found] == [3, 6]
        assert len(fake.requests) == 24 + 3 * 8 + judged
        assert judged == 20


@pytest.mark.parametrize(("schedule", "steps"), [("sequential", [2, 4, 6]), ("parallel", [4, 6])])
def test_a_checkpoint_is_judged_by_bounds_that_are_known(
    copied_world: World, tmp_path: Path, schedule: str, steps: list[int]
) -> None:
    """The samples of the start model, which give `base` its number, come a round later from a lane."""
    policy = copied_world.root / "base.policy"
    bare = copied_world.policy.read_text().partition("kind:")[0]
    policy.write_text(bare + "less: mean(toxicity) <= 0.5 * base for domain=chat\n")
    changes = {
        "method": "plain",
        "keep": "best",
        "policy": policy,
        "schedule": schedule,
        "selection_prompts": 8,
    }
    assert main(["train", *copied_world.flags(tmp_path / "out", **changes)]) == 0
    found = json.loads((tmp_path / "out" / "constraint" / "run.json").read_text())["selection"]
    assert [record["step"] for record in found] == steps
    assert len({record["clauses"][0]["bound"] for record in found}) == 1
    assert found[0]["clauses"][0]["bound"] > 0


@pytest.mark.parametrize("name", ["lora_r", "lora_alpha", "scorer_timeout", "keep", "packing", "schedule"])
def test_the_callback_refuses_what_it_does_not_do(world: World, name: str) -> None:
    with pytest.raises(ConfigError, match=f"no setting `{name}`"):
        ConstraintCallback(Policy.load(world.policy), ["hello"], **{name: 8})


# ------------------------------------------------------------ settings without a part
@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ({"alpha": 0.25}, "--divergence alpha"),
        ({"auxiliary_layers": 3}, "--auxiliary transformer"),
        ({"sampler_folder": "x"}, "--sampler vllm"),
        ({"lora_alpha": 4.0}, "--lora_r"),
        ({"lora_dropout": 0.5}, "--lora_r"),
        ({"lora_target_modules": "q_proj"}, "--lora_r"),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(given: dict[str, Any], needed: str) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(given))}: it has no part without {needed}"):
        ConstraintSettings(**given).check()
    ConstraintSettings(
        **given, divergence="alpha", auxiliary="transformer", lora_r=2, sampler="vllm", sampler_url="http://h"
    ).check()


def test_token_odds_take_no_part_weight_and_no_other_form() -> None:
    with pytest.raises(ConfigError, match="auxiliary_token_odds: it has no part without --auxiliary head"):
        ConstraintSettings(auxiliary="transformer", auxiliary_token_odds=False).check()
    with pytest.raises(ConfigError, match=r"auxiliary_corpus_weight: got 0\.5"):
        ConstraintSettings(auxiliary_corpus_weight=0.5).check()
    for own in ({"auxiliary": "transformer"}, {"auxiliary_token_odds": False}):
        ConstraintSettings(auxiliary_corpus_weight=0.5, **own).check()  # type: ignore[arg-type]
    ConstraintSettings(auxiliary_corpus_weight=0.0).check()


@pytest.mark.parametrize(
    ("decoding", "given"),
    [
        ("plain", {"max_draws": 3}),
        ("best_first", {"max_draws": 3}),
        ("masked", {"on_reject": "keep"}),
        ("rejection", {"search_budget": 99}),
        ("guided", {"clause": ("kind",)}),
    ],
)
def test_a_decoding_refuses_what_it_does_not_read(decoding: Any, given: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=f"^{next(iter(given))}: it has no part in the decoding `{decoding}`"
    ):
        DecodingSettings(decoding, **given)


def test_a_search_has_no_temperature(world: World, capsys: Captured) -> None:
    flags = [
        "--policy",
        str(world.policy),
        "--prompt",
        "elena asks",
        "--domain",
        "chat",
        "--max_new_tokens",
        "4",
    ]
    for changes in (["--temperature", "0.5"], ["--top_p", "0.5"]):
        assert (
            main(["generate", "--model", str(world.model), *flags, "--decoding", "best_first", *changes]) == 2
        )
        assert "samples none" in capsys.readouterr().err


# ------------------------------------------------------------ dry runs
def test_a_dry_run_refuses_what_the_run_would(world: World, tmp_path: Path, capsys: Captured) -> None:
    late = {"schedule": "parallel", "staleness": 3, "rounds": 3, "anchor": "tuned"}
    few = {"vargrad_weight": 1.0, "anchor_samples": 79}
    for changes, part in ((late, "would never act"), (few, "--anchor_samples 79")):
        messages = []
        for more in ([], ["--dry-run"]):
            assert main(["train", *world.flags(tmp_path / "out", **changes), *more]) == 2
            messages.append(capsys.readouterr().err)
            assert part in messages[-1]
    enough = {"vargrad_weight": 1.0, "anchor_samples": 80}
    assert main(["train", *world.flags(tmp_path / "out", **enough), "--dry-run"]) == 0


def test_a_dry_run_only_warns_of_what_the_start_model_cannot_reach(
    world: World, tmp_path: Path, capsys: Captured
) -> None:
    """The rows may teach it before a `tuned` anchor is taken; and of its few samples few carry the tilted law."""
    policy = tmp_path / "opens.policy"
    policy.write_text(
        'edition 1\nattribute ok: flag { backend = regex(re"^ok") }\nopens: P(ok) >= 95% for domain=chat\n',
        encoding="utf-8",
    )
    flags = world.flags(tmp_path / "out", policy=policy, anchor="tuned")
    assert main(["train", *flags, "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "clause `opens` may not be met: by the 24 first samples of the start model" in said
    assert "if that is so in the run itself, it ends with an error" in said
    assert "effective sample size" not in said


def test_a_dry_run_reads_the_rows_that_choose(world: World, tmp_path: Path, capsys: Captured) -> None:
    flags = world.flags(tmp_path / "out", keep="best", selection=tmp_path / "none.jsonl")
    assert main(["train", *flags, "--dry-run"]) == 2
    assert "none.jsonl" in capsys.readouterr().err


# ------------------------------------------------------------ a checkpoint of the other schedule
@pytest.mark.parametrize("kind", ["sequential", "parallel"])
def test_a_checkpoint_is_resumed_under_its_schedule(world: World, tmp_path: Path, kind: str) -> None:
    other = {"sequential": "parallel", "parallel": "sequential"}[kind]
    common: dict[str, Any] = {"anchor": "start", "save_strategy": "steps", "save_steps": 3}
    make(world, tmp_path, schedule=kind, **common).train()
    checkpoint = tmp_path / "checkpoint-3"
    assert (checkpoint / PENDING_FILE).exists() == (kind == "parallel")
    with pytest.raises(RuntimeFailure, match=f"schedule: {kind} there, {other} here"):
        make(world, tmp_path, schedule=other, **common).train(resume_from_checkpoint=str(checkpoint))


# ------------------------------------------------------------ what is written and what is read
def test_train_takes_the_configuration_that_init_writes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    flags = [
        "--config",
        "run.yaml",
        "--model",
        str(world.model),
        "--data",
        str(world.data),
        "--max_length",
        "64",
    ]
    assert main(["train", "my.policy", *flags, "--dry-run"]) == 0, capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_switch_needs_no_value(world: World, tmp_path: Path) -> None:
    flags = world.flags(tmp_path / "out", anchor="start")
    assert main(["train", *flags, "--packing", "--dry-run"]) == 0
    assert main(["train", "--packing", "false", *flags, "--dry-run"]) == 0
