"""The harness of the paper's tables: data, plan, budgets, processes, figures over seeds, the page."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "paper"))  # its files import each other by plain name

import counting  # noqa: E402
import data  # noqa: E402
import job  # noqa: E402
import page  # noqa: E402
import plan  # noqa: E402
import stamps  # noqa: E402
import summary  # noqa: E402
import workers  # noqa: E402
from scales import NAMES, setting_of  # noqa: E402


def needs_its_environment() -> None:
    for name in ("zstandard", "sklearn"):
        pytest.importorskip(name, reason=f"SKIPPED ALOUD: {name} is not installed: make .venv/.paper")


def scale(**changes: Any) -> job.Scale:
    return replace(setting_of("testbed", Path("shared"), Path("work")).scale, **changes)


# ------------------------------------------------------------ data
TOXIGEN = [
    {"source": "annotated", "text": " asked "},
    {"source": "safenlp", "text": "asked"},
    {"source": "annotated", "text": "own"},
    {"source": "annotated", "text": "own "},
    {"source": "annotated", "text": "other"},
]
WIKITEXT = [
    {"split": "train_prefix", "text": " ".join(f"w{i}" for i in range(100))},
    {"split": "test", "text": " ".join(f"t{i}" for i in range(100))},
]


def test_rows_hold_no_statement_that_is_asked_about_and_as_many_neutral_ones() -> None:
    files = data.training_files(TOXIGEN, WIKITEXT)
    rows = [json.loads(line) for line in files["rows.jsonl"].splitlines()]
    prompts = [json.loads(line)["text"] for line in files["prompts.jsonl"].splitlines()]
    assert sorted(prompts) == ["other", "own"]
    assert sorted(row["text"] for row in rows if row["domain"] == "toxigen") == sorted(prompts)
    neutral = [row["text"] for row in rows if row["domain"] == "wikitext"]
    assert len(neutral) == len(prompts)
    assert all(text.startswith("w") and len(text.split()) == data.WINDOW for text in neutral)


def test_rows_do_not_depend_on_the_order_of_the_corpus() -> None:
    assert data.training_files(TOXIGEN[::-1], WIKITEXT) == data.training_files(TOXIGEN, WIKITEXT)


# ------------------------------------------------------------ plan
def test_every_row_of_the_plan_comes_after_what_it_needs() -> None:
    rows = plan.rows_of("toxigen", scale(), only=["base", "ours_adaptive", "plain"])
    seen: set[str] = set()
    for row in rows:
        assert set(row.needed) <= seen
        seen.add(row.key)
    assert [row.key for row in rows[:3]] == ["llama/plain-0", "llama/base-0", "llama/ours_adaptive-0"]
    headline = [row for row in rows if row.system == "ours_adaptive"]
    assert [(row.architecture, row.seed) for row in headline] == [
        ("llama", 0), ("llama", 1), ("llama", 2), ("gpt2", 0),
    ]  # fmt: skip


def test_a_row_that_is_no_headline_has_one_seed_and_what_it_needs() -> None:
    rows = plan.rows_of("toxigen", scale(), only=["ours_adaptive_prompt"])
    assert [row.key for row in rows] == ["llama/plain-0", "llama/ours_adaptive_prompt-0"]
    assert len(plan.rows_of("toxigen", scale(), only=["ours_adaptive_prompt"], every=True)) == 12


def test_rows_that_need_each_other_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plan, "CONFIGS", tmp_path)
    configs = {"a": {"after": ["b"]}, "b": {"after": ["a"]}, "plain": {}}
    monkeypatch.setattr(plan, "config_of", configs.__getitem__)
    monkeypatch.setitem(plan.TABLES, "circle", ("a",))
    with pytest.raises(ValueError, match="a -> b -> a"):
        plan.rows_of("circle", scale())


def test_an_unknown_row_and_a_row_without_a_configuration_are_named() -> None:
    with pytest.raises(ValueError, match="no row `nothing` in the table toxigen"):
        plan.rows_of("toxigen", scale(), only=["nothing"])
    with pytest.raises(FileNotFoundError, match=r"nothing\.yaml"):
        job.config_of("nothing")


def test_a_table_goes_on_without_a_row_that_has_no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plan.TABLES, "short", ("plain", "nothing"))
    assert [row.system for row in plan.rows_of("short", scale(seeds=1))] == ["plain"]
    assert "nothing.yaml" in plan.without_configuration("short")["nothing"]


def test_ablations_change_one_row_and_stand_in_their_table() -> None:
    whole, own = job.config_of("ours_adaptive"), job.config_of("divergence_forward")
    assert own["options"] == {**whole["options"], "divergence": "forward"}
    assert not own["headline"]
    assert own["train"] == whole["train"]
    names = plan.systems_of("ablations")
    assert len(set(names)) == len(names)
    assert set(yaml.safe_load(job.ABLATIONS.read_text())["rows"]) < set(names)


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_of_a_scale_has_a_model_or_is_made(name: str) -> None:
    setting = setting_of(name, Path("shared"), Path("work"))
    assert set(setting.pretrain) <= set(setting.scale.models)
    for architecture in setting.pretrain:
        assert Path(setting.scale.models[architecture]).parent == Path("work/models")
    assert setting.scale.name == name


# ------------------------------------------------------------ budgets
OWN = [path.stem for path in sorted(job.CONFIGS.glob("*.yaml")) if "ours:train" in path.read_text()]
ABLATED = list(yaml.safe_load(job.ABLATIONS.read_text())["rows"])


def settings_at(name: str, system: str, folder: Path) -> tuple[job.Job, dict[str, Any]]:
    import ours

    (folder / "rows.jsonl").write_text("{}\n" * 6928)
    (folder / "prompts.jsonl").write_text("{}\n" * 3464)
    own = job.Job(
        setting_of(name, Path("shared"), Path("work")).scale, system, "llama", 0, folder / "rows.jsonl",
        folder / "prompts.jsonl", folder / "p.policy", folder, job.config_of(system)["options"],
    )  # fmt: skip
    return own, ours.settings_of(own, folder / "model").config


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("system", [*OWN, *ABLATED])
def test_the_settings_of_our_rows_fit_the_oracle_budget(system: str, name: str, tmp_path: Path) -> None:
    import ours

    own, settings = settings_at(name, system, tmp_path)
    most = ours.most_calls(settings, ours.rows_in_scope(own, settings), own.scale.steps)
    assert most <= own.scale.oracle_calls
    # 16 measurements of 15 rounds: one draws the samples of the anchor, the 5 between the first and it are left out
    if (system, name) == ("ours_adaptive", "testbed"):
        assert most == 4096 + 10 * 256 + 3464


@pytest.mark.parametrize(
    ("system", "testbed", "paper"),
    [
        ("ours_adaptive", (4096, 256), (16_384, 1_024)), ("ours", (3072, 192), (12_288, 768)),
        ("ours_parallel", (3072, 192), (12_288, 768)), ("ours_paper", (4096, 448), (16_384, 1_792)),
        ("oracle_half", (2048, 128), (8_192, 512)), ("oracle_quarter", (1024, 64), (4_096, 256)),
    ],
)  # fmt: skip
def test_a_row_has_its_share_of_the_samples_at_every_scale(
    system: str, testbed: tuple[int, int], paper: tuple[int, int], tmp_path: Path
) -> None:
    for name, expected in (("testbed", testbed), ("paper", paper)):
        _, settings = settings_at(name, system, tmp_path)
        assert (settings["anchor_samples"], settings["control_samples"]) == expected


def test_every_micro_batch_of_projected_rows_may_be_scored(tmp_path: Path) -> None:
    import ours

    _, settings = settings_at("paper", "ours_adaptive", tmp_path)
    assert settings["gradient_accumulation_steps"] == 8
    whole = ours.most_calls(settings, 10**9, 1_000)
    assert whole == 16_384 + 10 * 1_024 + 1_024 + 1_000 * 4 * 8 + 16_384


# ------------------------------------------------------------ what a row may cost
def planned(system: str, name: str, work: Path) -> job.Job:
    found = setting_of(name, Path("shared"), work).scale
    rows = work / "rows.jsonl"
    rows.write_text(json.dumps({"text": "one two three four"}) + "\n")
    return job.Job(
        found, system, next(iter(found.models)), 0, rows, rows, rows, work, job.config_of(system)["options"]
    )


@pytest.mark.parametrize(
    ("system", "steps"), [("plain", 150), ("corpus_projection", 300), ("nado_decoding", 0), ("base", 0), ("rl", 150)]
)  # fmt: skip
def test_the_plan_has_the_steps_that_a_row_runs(system: str, steps: int, tmp_path: Path) -> None:
    assert plan.steps_of(planned(system, "testbed", tmp_path)) == steps


def test_tokens_of_the_jigsaw_rows_are_those_of_comments_with_their_question(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    own = planned("sft_lm", "testbed", tmp_path)
    assert plan.mean_tokens(planned("plain", "testbed", tmp_path)) == pytest.approx(4 * plan.TOKENS_A_WORD)
    assert plan.mean_tokens(own) is None  # they are written later
    (tmp_path / "jigsaw").mkdir()
    (tmp_path / "jigsaw" / "trained.jsonl").write_text(json.dumps({"text": "a b c", "toxic": 1}) + "\n")
    assert plan.mean_tokens(own) == pytest.approx((3 + 6) * plan.TOKENS_A_WORD)


@pytest.mark.parametrize(("name", "seconds"), [("testbed", 430.0), ("gpu-small", None), ("paper", None)])
def test_seconds_of_a_core_are_no_guess_for_a_gpu(name: str, seconds: float | None, tmp_path: Path) -> None:
    own = planned("plain", name, tmp_path)
    assert plan.expected_seconds(own) == seconds
    row = plan.Row("plain", own.architecture, 0)
    first, last = plan.plan_lines([row], lambda _: own, lambda _: 0, 1)[1:]
    assert first.split()[4] == ("430" if seconds else "-")
    assert ("1 rows of unknown seconds apart" in last) == (seconds is None)
    own.folder.mkdir(parents=True)
    record = {"train_seconds": 4.0, "measure_seconds": 1.0, "stamp": "of other options"}
    (own.folder / "row.json").write_text(json.dumps(record))
    assert plan.expected_seconds(own) == 5.0


@pytest.mark.parametrize(
    ("system", "gigabytes"),
    [("base", 13), ("plain", 108), ("filtering", 108), ("ours_adaptive", 135), ("rl", 135), ("dpg", 162), ("etpo", 270),
     ("dpo", 108), ("nado_decoding", 27)],
)  # fmt: skip
def test_the_plan_has_the_memory_of_a_model_of_known_size(
    system: str, gigabytes: int, tmp_path: Path
) -> None:
    own = planned(system, "paper", tmp_path)
    line = plan.plan_lines([plan.Row(system, "llama", 0)], lambda _: own, lambda _: 0, 1)[1]
    assert f", {gigabytes} GB and activations" in line
    assert plan.bytes_of(planned(system, "testbed", tmp_path)) is None


def test_tokens_are_summed_over_all_steps() -> None:
    history = [
        {"step": 10, "tokens_per_micro_batch": 100.0},
        {"step": 10, "round": 1},
        {"step": 15, "tokens_per_micro_batch": 200.0},
    ]
    assert counting.trained_tokens({"history": history, "steps": 17}) == 10 * 100 + 5 * 200 + 2 * 200
    assert counting.trained_tokens({"history": history, "steps": 17}, 4) == 4 * (1000 + 1000 + 400)


def test_a_counted_scorer_keeps_every_text_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "oracle.jsonl"
    scorer = counting.CountedScorer(lambda prompts, completions, **columns: [0.5] * len(prompts), path)
    assert scorer(prompts=["a", "b"], completions=["c\n", "d"], domain=["x", "x"]) == [0.5, 0.5]
    assert scorer(prompts=["a"], completions=["e"]) == [0.5]
    assert counting.count_lines(path) == 3
    assert json.loads(path.read_text().splitlines()[0]) == {"prompt": "a", "completion": "c\n", "score": 0.5}


def test_seconds_go_on_where_a_killed_process_was(tmp_path: Path) -> None:
    path = tmp_path / "spent.json"
    path.write_text(json.dumps({"seconds": 100.0, "processor_seconds": 90.0}))
    watch = counting.Stopwatch(path, fresh=False)
    assert watch.seconds >= 100
    watch.write()
    assert json.loads(path.read_text())["processor_seconds"] >= 90
    assert counting.Stopwatch(path, fresh=True).seconds < 50


# ------------------------------------------------------------ what a result was made for
def stamped(folder: Path, **changes: Any) -> job.Job:
    for name in ("rows", "prompts", "policy"):
        (folder / name).write_text(name)
    found = job.Job(
        scale(**changes), "ours_adaptive", "llama", 0, folder / "rows", folder / "prompts", folder / "policy",
        folder / "work", {},
    )  # fmt: skip
    return found


def test_a_training_of_other_options_is_set_aside_and_one_of_the_same_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = stamped(tmp_path)
    assert stamps.set_aside(own) is None
    stamps.stamp(own)
    (own.folder / "trained.json").write_text("{}")
    assert stamps.set_aside(own) is None
    assert stamps.set_aside(stamped(tmp_path, seeds=1, rtp_prompts=1)) is None  # of measuring alone
    config = job.config_of("ours_adaptive")
    monkeypatch.setattr(stamps, "config_of", lambda system: {**config, "options": {"anchor": "start"}})
    aside = stamps.set_aside(own)
    assert aside is not None
    assert (aside / "trained.json").exists()
    assert not own.folder.exists()


def test_a_row_starts_from_another_one_as_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = {"a": {"train": "x:y", "after": ["b"]}, "b": {"train": "x:y", "options": {"k": 1}}}
    monkeypatch.setattr(stamps, "config_of", configs.__getitem__)
    own = replace(stamped(tmp_path), system="a")
    before = stamps.training_stamp(own)
    assert stamps.training_stamp(own) == before
    configs["b"]["options"] = {"k": 2}
    assert stamps.training_stamp(own) != before


def test_a_record_of_other_protocols_is_none(tmp_path: Path) -> None:
    own = stamped(tmp_path)
    own.folder.mkdir(parents=True)
    assert stamps.read_record(own) is None
    (own.folder / "row.json").write_text(json.dumps({"stamp": stamps.row_stamp(own), "train_seconds": 1}))
    assert stamps.read_record(own) is not None
    assert stamps.read_record(stamped(tmp_path, rtp_samples=3)) is None


def test_settings_that_no_option_names_are_part_of_what_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ours
    import scales

    own = stamped(tmp_path)
    systems = ("ours_adaptive", "plain", "corpus_projection", "rl")
    before = {name: stamps.training_stamp(own, name) for name in systems}
    with monkeypatch.context() as patch:
        patch.setitem(ours.SETTING, "rounds", 14)
        changed = {name for name in systems if stamps.training_stamp(own, name) != before[name]}
    assert changed == {"ours_adaptive"}
    monkeypatch.setitem(scales.TRAIN["testbed"], "gradient_checkpointing", True)
    changed = {name for name in systems if stamps.training_stamp(own, name) != before[name]}
    assert changed == set(systems)  # `rl` because it starts from `plain`


def test_paths_are_no_part_of_what_was_asked(tmp_path: Path) -> None:
    own = stamped(tmp_path)
    assert stamps.training_stamp(replace(own, work=tmp_path / "other")) == stamps.training_stamp(own)


def test_a_start_model_of_other_settings_is_another_one(tmp_path: Path) -> None:
    import pretrain

    made = setting_of("testbed", tmp_path, tmp_path).pretrain["gpt2"]
    folder = tmp_path / "models" / "gpt2"
    folder.mkdir(parents=True)
    own = replace(stamped(tmp_path, models={"gpt2": str(folder)}), architecture="gpt2")
    assert not pretrain.is_made(made, folder)
    found = []
    for tokens, seconds in ((10, 1.0), (10, 2.0), (20, 1.0)):
        record = {"seconds": seconds, "asked": pretrain.asked(replace(made, tokens=tokens))}
        (folder / pretrain.RECORD).write_text(json.dumps(record))
        found.append(stamps.training_stamp(own))
    assert found[0] == found[1] != found[2]
    assert pretrain.is_made(replace(made, tokens=20, tokenizer="elsewhere/lm"), folder)
    assert not pretrain.is_made(made, folder)
    with pytest.raises(ValueError, match="made with other settings"):
        pretrain.pretrain(made, tmp_path, folder, device="cpu")
    (folder / pretrain.RECORD).write_text("{}")  # of before the settings were kept
    assert pretrain.is_made(made, folder)


def test_what_a_row_says_of_itself_is_there_whole_or_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = stamped(tmp_path)
    stamps.stamp(own)
    trained = job.Trained("model", 1.0, 1.0, 0, 1, 1)
    trained.write(own.folder)
    asked = (own.folder / stamps.FILE).read_text()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    for write in (
        lambda: replace(trained, steps=2).write(own.folder),
        lambda: stamps.stamp(stamped(tmp_path, steps=1)),
    ):
        with pytest.raises(KeyboardInterrupt):
            write()
    assert job.Trained.read(own.folder) == trained
    assert (own.folder / stamps.FILE).read_text() == asked


# ------------------------------------------------------------ processes
def task(folder: Path, key: str, code: str, *needs: str, cores: int = 1) -> workers.Task:
    return workers.Task(key, (sys.executable, "-S", "-c", code), folder / f"{key}.txt", needs, cores)


def test_a_task_that_fails_holds_up_only_those_that_need_it(tmp_path: Path) -> None:
    out = tmp_path / "order"
    note = f"open({str(out)!r}, 'a').write('KEY ')"
    tasks = [
        task(tmp_path, "a", note.replace("KEY", "a")),
        task(tmp_path, "b", "raise SystemExit('no luck')", "a"),
        task(tmp_path, "c", note.replace("KEY", "c"), "b"),
        task(tmp_path, "d", note.replace("KEY", "d"), "a", "done"),
        task(tmp_path, "e", note.replace("KEY", "e"), "c"),
        task(tmp_path, "f", note.replace("KEY", "f"), "d", cores=5),
    ]
    said: list[str] = []
    failures = workers.run_all([*tasks, task(tmp_path, "done", "1/0")], {"done"}, 2, said.append)
    assert {failure.key for failure in failures} == {"b", "c", "e"}
    why = {failure.key: failure.why for failure in failures}
    assert "exit code 1" in why["b"]
    assert "no luck" in why["b"]
    assert why["c"] == "not run, it needs b"
    assert out.read_text().split() == ["a", "d", "f"]


def test_a_task_does_not_wait_for_what_an_earlier_run_left_to_measure(tmp_path: Path) -> None:
    """Each writes its name and waits for the other's."""
    both = "; ".join(
        (
            "import pathlib, time",
            f"folder = pathlib.Path({str(tmp_path)!r})",
            "(folder / %r).touch()",
            "end = time.monotonic() + 60",
            "[time.sleep(0.01) for _ in iter(lambda: not (folder / %r).exists() and time.monotonic() < end, False)]",
            "assert time.monotonic() < end",
        )
    )
    tasks = [
        task(tmp_path, "plain", both % ("first", "second")),
        task(tmp_path, "ours", both % ("second", "first"), "plain"),
    ]
    assert workers.run_all(tasks, set(), 2, lambda _: None, ready={"plain"}) == []


def test_the_plan_says_what_a_finished_row_has_left_to_measure(tmp_path: Path) -> None:
    own = planned("plain", "testbed", tmp_path)
    own.folder.mkdir(parents=True)
    record = {"train_seconds": 4.0, "measure_seconds": 1.0, "later": ["choices", "rtp"]}
    (own.folder / "row.json").write_text(json.dumps({**record, "stamp": stamps.row_stamp(own)}))
    row = plan.Row("plain", own.architecture, 0)
    first, last = plan.plan_lines([row], lambda _: own, lambda _: 0, 1)[1:]
    assert first.endswith("to measure: choices, rtp")
    assert "what is to measure of 1 finished rows apart" in last
    later = plan.plan_lines([row], lambda _: own, lambda _: 0, 1, ("rtp", "choices"))
    assert later[1].endswith("finished")
    assert "to measure" not in later[2]


def test_a_task_sees_one_gpu_that_no_other_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")

    def seen(gpus: list[str], count: int) -> list[str]:
        folder = tmp_path / f"of-{len(gpus)}"
        folder.mkdir()
        code = (
            "import os, pathlib, time\n"
            f"folder = pathlib.Path({str(folder)!r})\n"
            "(folder / f'gpu-{os.getpid()}').write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
            f"while len(list(folder.glob('gpu-*'))) < {count}: time.sleep(0.01)"  # all run at a time
        )
        tasks = [task(folder, f"t{i}", code) for i in range(count)]
        assert workers.run_all(tasks, set(), count, lambda _: None, gpus=gpus) == []
        return sorted(path.read_text() for path in folder.glob("gpu-*"))

    assert seen(["0", "GPU-a"], 4) == ["0", "0", "GPU-a", "GPU-a"]
    assert seen([], 1) == ["7"]


def test_the_gpus_are_those_that_the_caller_left_visible() -> None:
    assert workers.visible_gpus({}, 2) == ["0", "1"]
    assert workers.visible_gpus({"CUDA_VISIBLE_DEVICES": "2, GPU-a"}, 2) == ["2", "GPU-a"]
    assert workers.visible_gpus({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, 1) == [
        "0"
    ]  # torch sees none after the wrong one
    assert workers.visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, 0) == []


def test_a_task_holds_the_lock_of_the_run_that_started_it(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        code = f"import os; os.fstat({lock.fileno()})"
        held = workers.run_all(
            [task(tmp_path, "a", code)], set(), 1, lambda _: None, inherited=(lock.fileno(),)
        )
        assert held == []
        lost = workers.run_all([task(tmp_path, "b", code)], set(), 1, lambda _: None)
        assert [failure.key for failure in lost] == ["b"]


# ------------------------------------------------------------ figures over seeds
def test_one_seed_keeps_its_own_interval() -> None:
    figure = {"mean": 0.1, "low": 0.05, "high": 0.2, "interval": "clopper-pearson"}
    found = summary.over_seeds([{"toxicity": figure, "words": 7, "what": "text"}])
    assert (found["toxicity"]["seeds"], found["toxicity"]["interval"]) == ([0.1], "clopper-pearson")
    assert (found["toxicity"]["low"], found["toxicity"]["high"]) == pytest.approx((0.05, 0.2))
    assert found["words"] == {"mean": 7.0, "low": None, "high": None, "seeds": [7.0]}
    assert found["what"] == "text"


def test_several_seeds_have_an_interval_for_prompts_and_for_seeds() -> None:
    figures = [{"mean": mean, "low": mean - 0.03, "high": mean + 0.04} for mean in (1.0, 2.0, 3.0)]
    found = summary.joined(figures)
    between = 4.302652729911275 * 1.0 / 3**0.5  # t of two degrees of freedom
    assert found["mean"] == 2.0
    assert found["low"] == pytest.approx(2 - (0.03**2 + between**2) ** 0.5)
    assert found["high"] == pytest.approx(2 + (0.04**2 + between**2) ** 0.5)


def test_a_figure_that_only_some_seeds_have_is_of_those() -> None:
    figure = {"mean": 0.5, "low": 0.4, "high": 0.6, "chance": 0.25}
    found = summary.over_seeds([{"choices": {"piqa": figure}}, {}])
    assert found["choices"]["piqa"]["seeds"] == [0.5]
    assert found["choices"]["piqa"]["chance"] == 0.25


# ------------------------------------------------------------ page
def result() -> dict[str, Any]:
    figure = {"mean": 0.123, "low": 0.1, "high": 0.15}
    row = {
        "system": "ours", "says": "A <row> & more.", "architecture": "llama", "seeds": [0, 1], "toxicity": figure,
        "choices": {"piqa": {**figure, "chance": 0.5}, "seconds": {"mean": 3.0}}, "seconds": 12.0, "tokens": 1e6,
    }  # fmt: skip
    other = {**row, "system": "plain", "toxicity": {"mean": 0.3, "low": None, "high": None}}
    return {
        "rows": [row, other], "failed": [{"row": "llama/rl-0", "why": "exit code 1"}], "command": "python x",
        "scale": {"name": "testbed", "oracle_calls": 12_000}, "versions": {"torch": "2"}, "device": {"device": "cpu"},
    }  # fmt: skip


def test_the_page_shows_every_row_and_loads_nothing() -> None:
    text = page.page("toxigen", result())
    assert text.count("<tr class='ours'>") == 1
    assert text.count("<tr class='other'>") == 1
    assert "A &lt;row&gt; &amp; more." in text
    assert "<span class='best'>0.123</span><small>0.100 to 0.150</small>" in text
    assert "llama/rl-0: exit code 1" in text
    assert "Chance on the questions: piqa 0.500" in text
    assert not any(word in text for word in ("http:", "https:", "src=", "@import", "<script"))


def test_the_page_has_the_matrix_of_a_judge_that_was_asked() -> None:
    figure = {"mean": 0.625, "low": 0.5, "high": 0.75}
    matrix = {"ours": {"plain": figure}, "plain": {"ours": {**figure, "mean": 0.375}}}
    judges = {
        "likelihood": {"measured": True, "what": "a < b", "matrix": matrix, "spoken": {"matrix": matrix}},
        "llm": {"measured": False, "what": "none"},
    }
    text = page.page("winrate", {**result(), "judges": {"llama": judges}})
    assert (
        "<tr><th>against</th><th>ours</th><th>plain</th></tr><tr><td>ours</td><td></td><td><span>0.625"
        in text
    )
    assert "a &lt; b" in text
    assert text.count("<th>against</th>") == 2
    assert "The same over the prompts where both replies have a word." in text


def test_a_bar_lies_inside_its_column() -> None:
    drawn = page.bar(0.2, 0.0, 1.0, (0.0, 1.0))
    assert f"x1='4.0' x2='{page.WIDTH - 4.0}'" in drawn
    assert "cx='20.8'" in drawn


def test_rows_of_an_earlier_run_stay_with_the_run_that_made_them(tmp_path: Path) -> None:
    """Not where this run has the row, nor where the data are others; in the table's order, with their samples."""
    needs_its_environment()
    import earlier
    import table

    def entry(system: str, architecture: str = "llama", **more: object) -> dict[str, Any]:
        return {"system": system, "architecture": architecture, "seeds": [0], **more}

    path = tmp_path / "t.json"
    sizes = {"steps": 150, "oracle_calls": 12_000, "models": {"llama": "lm"}}
    new = {"rows": [entry("ours", seeds=[0, 1])], "files": {"rows": "a"}, "scale": sizes}
    assert earlier.rows_left(path, new) == []
    old = {
        "rows": [entry("ours", seeds=[0]), entry("plain"), entry("ours", "gpt2"), entry("odd")],
        "files": {"rows": "a"}, "command": "python run.py", "versions": {"torch": "2"}, "commit": "abc+",
        "scale": {**sizes, "models": {"llama": "lm", "gpt2": "gpt2"}},
        "start_models": {"gpt2": {"tokens": 1}, "llama": {"tokens": 2}},
    }  # fmt: skip
    path.write_text(json.dumps(old))
    left = earlier.rows_left(path, new)
    made = {"command": "python run.py", "commit": "abc+", "versions": {"torch": "2"}}
    assert left == [entry("plain", made=made), entry("ours", "gpt2", made=made), entry("odd", made=made)]
    path.write_text(json.dumps({**old, "rows": left}))
    again = earlier.rows_left(path, new)
    assert again == left  # the run that made them, not the one that left them standing
    path.write_text(json.dumps({**old, "files": {"rows": "b"}}))
    assert earlier.rows_left(path, new) == []
    for size in ("steps", "oracle_calls"):
        path.write_text(json.dumps({**old, "scale": {**sizes, size: 1}}))
        assert earlier.rows_left(path, new) == []
        assert earlier.start_models_left(path, new, left) == {}
    path.write_text(json.dumps(old))
    assert earlier.start_models_left(path, new, left) == {"gpt2": {"tokens": 1}}

    ordered = earlier.in_order([*new["rows"], *left], ["llama", "gpt2"], ["base", "plain", "ours"])
    assert [(one["system"], one["architecture"]) for one in ordered] == [
        ("plain", "llama"), ("ours", "llama"), ("odd", "llama"), ("ours", "gpt2"),
    ]  # fmt: skip
    samples = tmp_path / "t.samples.jsonl.zst"
    table.write_samples(samples, [entry(name, completion=name) for name in ("ours", "plain", "odd")])
    assert [one["system"] for one in earlier.samples_left(samples, left)] == ["plain", "odd"]
    assert list(earlier.samples_left(samples, [])) == []


def test_a_row_of_more_seeds_stays_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    needs_its_environment()
    import earlier

    def result(**seeds: list[int]) -> dict[str, Any]:
        rows = [{"system": name, "architecture": "llama", "seeds": own} for name, own in seeds.items()]
        return {"rows": rows, "files": {}, "scale": {}}

    path = tmp_path / "t.json"
    path.write_text(json.dumps(result(ours=[0, 1, 2], plain=[0], base=[0, 1])))
    new = result(ours=[0], plain=[0], base=[0, 1, 2])
    assert [entry["system"] for entry in earlier.rows_left(path, new)] == ["ours"]
    assert earlier.rows_left(path, new, replaces=True) == []


def test_samples_are_packed_and_read_back(tmp_path: Path) -> None:
    needs_its_environment()
    import table

    samples = [{"prompt": "a", "completion": "é\n", "score": 0.5, "seed": 0}] * 3
    path = tmp_path / "x.samples.jsonl.zst"
    assert table.write_samples(path, samples) == 3
    first = path.read_bytes()
    assert list(table.read_samples(path)) == samples
    table.write_samples(path, samples)
    assert path.read_bytes() == first
