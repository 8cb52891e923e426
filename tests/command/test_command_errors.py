"""What goes wrong in ``constraintc train``: one clear error that names the fix, the right exit code, nothing lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_models import World, write_jsonl

from constraintc.main import main
from constraintlang_runtime.scorers.classifier import ClassifierScorer
from constraintlang_runtime.scorers.lexicon import LexiconScorer

Captured = pytest.CaptureFixture[str]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(capsys: Captured, arguments: list[str], code: int, *parts: str) -> str:
    """Run a command that must fail with this code and one error that says these things."""
    capsys.readouterr()
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("error") >= 1
    assert "Traceback" not in err
    assert "internal error" not in err
    for part in parts:
        assert part in err
    return err


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_what_is_missing_on_the_command_line(world: World, output: Path, capsys: Captured) -> None:
    for key in ("model", "data", "output"):
        words = world.flags(output)
        position = words.index(f"--{key}")
        err = refused(
            capsys,
            ["train", *words[:position], *words[position + 2 :]],
            2,
            f"`{key}` is missing",
            f"--{key} ",
        )
        assert err.count("error:") == 1
    assert not output.exists()


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--max_step", "3"], ["unknown setting `max_step`", "`max_steps`"]),
        (["--regularizer-wieght", "3"], ["unknown setting `regularizer_wieght`", "`regularizer_weight`"]),
        (["--prompt", "x"], ["unknown setting `prompt`", "`prompts`"]),
        (["--zebra", "3"], ["unknown setting `zebra`", "--help"]),
        (["stray"], ["unexpected argument `stray`", "--name value"]),
        (["--max_steps", "many"], ["max_steps", "expected a number"]),
        (["--max_steps", "2.5"], ["max_steps", "whole number"]),
        (["--max_steps", "0"], ["max_steps", "at least 1"]),
        (["--max_steps", "true"], ["max_steps", "expected a number"]),
        (["--max_steps", "[1]"], ["max_steps", "expected a number"]),
        (["--max_steps", "null"], ["max_steps", "expected a number"]),
        (["--bf16", "maybe"], ["bf16", "true or false"]),
        (["--anchor", "moon"], ["anchor", "start, tuned, previous, current"]),
        (["--divergence", "js2"], ["divergence", "forward, reverse, js"]),
        (["--prefixes", "none"], ["prefixes", "corpus, sampled, mixed"]),
        (["--training_rows", "some"], ["training_rows", "projected, given"]),
        (["--method", "magic"], ["method", "constraint, plain, filtering"]),
        (["--schedule", "zigzag"], ["schedule", "sequential, parallel"]),
        (
            ["--adaptive", "prompt", "--anchor", "previous"],
            ["`prompt` needs a frozen anchor", "--anchor start"],
        ),
        (["--adaptive", "prompt", "--anchor", "current"], ["`prompt` needs a frozen anchor"]),
        (["--temperature", "-1"], ["temperature", "expected"]),
        (["--rounds", "1"], ["would start at step 6 of 6", "raise --rounds"]),
        (["--lr_scheduler_type", "zigzag"], ["zigzag"]),
        (["--optim", "zigzag"], ["zigzag"]),
        (["--eval_strategy", "steps"], ["eval_strategy"]),
        (["--max_length", "3"], ["max_length"]),
        (["--config", "nowhere.yaml"], ["--config", "nowhere.yaml", "check the path"]),
        (["--config", "."], ["--config"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_wrong_settings(
    world: World, output: Path, capsys: Captured, flags: list[str], parts: list[str]
) -> None:
    refused(capsys, ["train", *world.flags(output), *flags], 2, *parts)
    assert not output.exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (b"max_step: 3\n", ["unknown setting `max_step`", "`max_steps`"]),
        (b"- 1\n", ["list", "key: value"]),
        (b"a: [\n", ["not YAML"]),
        (b"max_steps: \xff\n", ["UTF-8"]),
        (b"max_steps:\n", ["max_steps", "expected a number"]),
        (b"data: 3\n", ["data", "expected a text"]),
        (b"resume: 3\n", ["resume", "true or false"]),
    ],
)
def test_wrong_configuration_files(
    world: World, output: Path, capsys: Captured, tmp_path: Path, text: bytes, parts: list[str]
) -> None:
    (tmp_path / "run.yaml").write_bytes(text)
    flags = world.flags(output, max_steps=None, data=None if b"data" in text else world.data)
    refused(capsys, ["train", *flags, "--config", str(tmp_path / "run.yaml")], 2, *parts)
    assert not output.exists()


@pytest.mark.parametrize(
    ("name", "data", "parts"),
    [
        ("no.jsonl", None, ["no file", "check the path"]),
        ("no_such_set", None, ["neither a file here nor a data set", "check the path"]),
        ("folder", "folder", ["is a folder"]),
        ("empty.jsonl", b"", ["has no rows"]),
        ("blank.jsonl", b"\n\n", ["has no rows"]),
        ("empty.csv", b"", ["has no rows"]),
        ("empty.json", b"[]", []),
        ("bad.jsonl", b'{"text": "a"}\n{"text": \n', ["line 2", "not JSON"]),
        ("list.jsonl", b"[1]\n", ["line 1", "expected an object"]),
        ("bad.json", b"{", ["cannot read"]),
        ("bad.parquet", b"nonsense", ["cannot read"]),
        ("latin.jsonl", b'{"text": "\xe9"}\n', ["UTF-8"]),
        ("odd.xyz", b"x", ["cannot tell the format", ".jsonl"]),
        ("column.jsonl", b'{"prmpt": "a", "reply": "b"}\n', ["none of the columns", "prmpt", "rename"]),
        (
            "half.jsonl",
            b'{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n',
            ["line 2 of `{path}`", "no completion"],
        ),
        ("null.jsonl", b'{"text": "a"}\n{"text": null}\n', ["line 2 of `{path}`", "no value"]),
        ("white.jsonl", b'{"text": "  "}\n', ["line 1 of `{path}`", "no text"]),
        ("number.jsonl", b'{"prompt": 3, "completion": "b"}\n', ["line 1 of `{path}`", "`prompt`", "text"]),
        (
            "number2.jsonl",
            b'{"prompt": "a", "completion": 4}\n',
            ["line 1 of `{path}`", "`completion`", "text"],
        ),
        ("void.jsonl", b'{"prompt": "", "completion": "b"}\n', ["line 1 of `{path}`", "empty prompt"]),
        (
            "chat.jsonl",
            b'{"messages": [{"role": "user", "content": "a"}]}\n',
            ["line 1 of `{path}`", "chat template"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_wrong_rows(
    world: World, output: Path, capsys: Captured, tmp_path: Path, name: str, data: Any, parts: list[str]
) -> None:
    path = tmp_path / name
    if data == "folder":
        path.mkdir()
    elif data is not None:
        path.write_bytes(data)
    where = name if name == "no_such_set" else f"chat={path}"
    refused(
        capsys,
        ["train", *world.flags(output, data=where, prompts=None)],
        2,
        name if not parts else "",
        *(part.format(path=path) for part in parts),
    )
    assert not output.exists()


def test_missing_models(world: World, output: Path, capsys: Captured, tmp_path: Path) -> None:
    refused(
        capsys, ["train", *world.flags(output, model=tmp_path / "nowhere")], 2, "nowhere", "check the path"
    )
    refused(capsys, ["train", *world.flags(output, model="no_such_model")], 2, "no_such_model", "hub")
    (tmp_path / "empty").mkdir()
    refused(
        capsys, ["train", *world.flags(output, model=tmp_path / "empty")], 2, "holds nothing", "config.json"
    )
    torn = tmp_path / "torn"
    torn.mkdir()
    for name, data in content(world.model).items():
        (torn / name).write_bytes(data[: len(data) // 2] if name == "model.safetensors" else data)
    refused(capsys, ["train", *world.flags(output, model=torn)], 2, "cannot load", "torn")
    assert not output.exists()


def test_a_tokenizer_larger_than_its_model(
    world: World, output: Path, capsys: Captured, tmp_path: Path
) -> None:
    from tiny_models import tiny_llama

    model = tmp_path / "small"
    model.mkdir()
    for name, data in content(world.model).items():
        (model / name).write_bytes(data)
    tiny_llama(20).save_pretrained(model)
    refused(capsys, ["train", *world.flags(output, model=model)], 2, "tokenizer", "20")


def test_policies_that_are_rejected(
    world: World, output: Path, capsys: Captured, copied_world: World
) -> None:
    copied_world.policy.write_text("edition 1\ntoxcity < 0.1\n")
    refused(capsys, ["train", *copied_world.flags(output)], 3, "PC")
    refused(capsys, ["train", *copied_world.flags(output, policy=output / "no.policy")], 2, "no.policy")
    assert not output.exists()


def test_a_clause_without_prompts(world: World, output: Path, capsys: Captured, tmp_path: Path) -> None:
    kitchen = write_jsonl(
        tmp_path / "k.jsonl", [{"prompt": "to cook a pie :", "completion": "cut the rice ."}]
    )
    flags = world.flags(output, data=f"kitchen={kitchen}", prompts=None)
    refused(capsys, ["train", *flags], 2, "no prompt lies in the domain of `kind`", "kitchen", "DOMAIN=FILE")
    bare = world.flags(output, data=kitchen, prompts=None)
    refused(capsys, ["train", *bare], 2, "no prompt lies in the domain of `kind`", "no domain")
    evaluated = ["eval", str(world.policy), "--model", str(world.model), "--prompts", str(kitchen)]
    refused(capsys, evaluated, 2, "no prompt lies in the domain of `kind`")
    assert not output.exists()


def test_attributes_without_a_scorer(
    copied_world: World, output: Path, capsys: Captured, tmp_path: Path
) -> None:
    copied_world.policy.write_text("edition 1\nkind: toxicity < 0.1 for domain=chat\n")
    refused(capsys, ["train", *copied_world.flags(output)], 2, "`toxicity`", "--scorer toxicity=")
    for given, part in (
        ("toxcity=words.tsv", "`toxicity`"),
        ("words.tsv", "NAME=PATH"),
        (f"toxicity={tmp_path}/no.tsv", "no.tsv"),
        (f"toxicity={tmp_path}/nowhere", "nowhere"),
    ):
        refused(capsys, ["train", *copied_world.flags(output, scorer=given)], 2, part)
    twice = [f"toxicity={copied_world.root}/words.tsv"] * 2
    refused(capsys, ["train", *copied_world.flags(output, scorer=twice)], 2, "given twice")
    assert not output.exists()


def test_an_ambiguous_label(copied_world: World, output: Path, capsys: Captured, classifier: Path) -> None:
    refused(
        capsys, ["train", *copied_world.flags(output, scorer=f"toxicity={classifier}")], 2,
        "3 labels (rude, calm, odd)", f"--scorer toxicity={classifier}#LABEL",
    )  # fmt: skip
    wrong = copied_world.flags(output, scorer=f"toxicity={classifier}#loud")
    refused(capsys, ["train", *wrong], 2, "no label `loud`", "rude, calm, odd")


def test_a_policy_may_not_read_outside_its_folder(
    copied_world: World, output: Path, capsys: Captured, tmp_path: Path
) -> None:
    below = tmp_path / "below"
    below.mkdir()
    policy = below / "p.policy"
    policy.write_text(copied_world.policy.read_text().replace("words.tsv", "../words.tsv"))
    refused(capsys, ["train", *copied_world.flags(output, policy=policy)], 3, "PC119", "--allow-path")
    (below / "link.tsv").symlink_to(tmp_path / "words.tsv")
    policy.write_text(copied_world.policy.read_text().replace("words.tsv", "link.tsv"))
    refused(capsys, ["train", *copied_world.flags(output, policy=policy)], 3, "PC119", '"link.tsv"')
    assert main(["train", *copied_world.flags(output, policy=policy), "--allow-path", "--dry-run"]) == 0


@pytest.mark.usefixtures("slow_scorers")
@pytest.mark.parametrize(
    ("results", "parts"),
    [
        (lambda n: 1 / 0, ["raised ZeroDivisionError", "run it on that text alone"]),
        (lambda n: [float("nan")] * n, ["returned nan", "None where a score is unavailable"]),
        (lambda n: [float("inf")] * n, ["returned inf", "None"]),
        (lambda n: [0.5] * (n + 1), ["scores for", "one float or None per completion"]),
        (lambda n: [], ["returned 0 scores", "one float or None per completion"]),
        (lambda n: [1.5] * n, ["returned 1.5", "outside the declared range [0, 1]", "rescale"]),
        (lambda n: [-0.1] * n, ["returned -0.1", "outside the declared range"]),
        (lambda n: ["high"] * n, ["returned 'high'", "a float or None"]),
        (lambda n: None, ["raised TypeError"]),
        (lambda n: [None] * n, ["have no score", "cannot guess"]),
    ],
)
def test_scorers_that_fail(
    world: World,
    output: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    results: Any,
    parts: list[str],
) -> None:
    def broken(self: Any, *, prompts: Any, completions: Any, **columns: Any) -> Any:
        return results(len(completions))

    monkeypatch.setattr(LexiconScorer, "__call__", broken)
    err = refused(capsys, ["train", *world.flags(output)], 4, *parts)
    assert err.count("error:") == 1
    assert err.count("help:") == 1


@pytest.mark.usefixtures("slow_scorers")
def test_a_scorer_that_fails_late_keeps_the_checkpoint(
    world: World, output: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [0]
    score = LexiconScorer.__call__

    def failing(self: Any, **given: Any) -> Any:
        calls[0] += 1
        if calls[0] == 4:
            raise RuntimeError("the service is down")
        return score(self, **given)

    monkeypatch.setattr(LexiconScorer, "__call__", failing)
    refused(capsys, ["train", *world.flags(output)], 4, "RuntimeError: the service is down")
    assert list((output / "checkpoints").glob("checkpoint-*"))
    assert main(["train", *world.flags(output), "--resume"]) == 0


@pytest.mark.usefixtures("slow_scorers")
def test_a_bound_that_cannot_be_met(world: World, output: Path, capsys: Captured, monkeypatch: Any) -> None:
    def always(self: Any, *, completions: Any, **given: Any) -> list[float]:
        return [1.0] * len(completions)

    monkeypatch.setattr(LexiconScorer, "__call__", always)
    flags = world.flags(output, auxiliary_steps=300, auxiliary_learning_rate=0.1, set_point_share=1e-5)
    refused(capsys, ["train", *flags], 4, "clause `kind` cannot be met", "loosen the bound")


OPPOSED = """edition 1
attribute toxicity: score in [0, 1] lower_is_better {
  backend = lexicon("words.tsv")
}
low: P(toxicity >= 0.1) <= 2% for domain=chat
high: P(toxicity >= 0.1) >= 98% for domain=chat
"""


def test_clauses_that_cannot_be_met_together(copied_world: World, output: Path, capsys: Captured) -> None:
    """The error names them all; with a tuned reference the first round has already warned of it."""
    copied_world.policy.write_text(OPPOSED)
    flags = copied_world.flags(output, anchor="start")
    refused(
        capsys, ["train", *flags], 4, "cannot be met together with", "`low`", "`high`", "furthest from it"
    )
    flags = copied_world.flags(output.with_name("tuned"))
    refused(capsys, ["train", *flags], 4, "may not be met together with", "cannot be met together with")


def test_finished_output_survives_every_refusal(
    world: World, copied_world: World, output: Path, capsys: Captured, tmp_path: Path
) -> None:
    flags = copied_world.flags(output, method="plain", max_steps=1)
    assert main(["train", *flags]) == 0
    before = content(output)
    refused(capsys, ["train", *flags], 2, "is not empty", "--resume", "--overwrite")
    refused(capsys, ["train", *flags, "--overwrite", "--data", str(tmp_path / "no.jsonl")], 2, "no file")
    refused(capsys, ["train", *flags, "--overwrite", "--max_step", "3"], 2, "max_steps")
    refused(capsys, ["train", *flags, "--overwrite", "--model", str(tmp_path / "none")], 2, "none")
    copied_world.policy.write_text("edition 1\nnonsense <\n")
    refused(capsys, ["train", *flags, "--overwrite"], 3)
    assert content(output) == before


def test_output_that_cannot_be_a_folder(world: World, capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused(capsys, ["train", *world.flags(tmp_path / "file")], 2, "is a file", "name a folder")
    refused(capsys, ["train", *world.flags(tmp_path / "file" / "below")], 2, "is a file")
    assert (tmp_path / "file").read_text() == "x"


def test_our_own_bugs_are_told_apart(world: World, output: Path, capsys: Captured, monkeypatch: Any) -> None:
    """The checks above can fail: an exception that nobody foresaw exits with 70."""
    monkeypatch.setattr(ClassifierScorer, "__init__", lambda self, *args, **kwargs: [][0])
    assert main(["train", *world.flags(output, scorer="toxicity=x")]) == 70
    assert "internal error" in capsys.readouterr().err


@pytest.mark.usefixtures("slow_scorers")
def test_interruption(world: World, output: Path, monkeypatch: Any) -> None:
    def interrupt(self: Any, **given: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(LexiconScorer, "__call__", interrupt)
    assert main(["train", *world.flags(output)]) == 130


def test_the_processes_of_a_launcher_say_an_error_in_full_once(
    world: World, output: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = world.root / "no such.policy"
    for name, words in {
        "setting": ["train", *world.flags(output), "--max_step", "3"],
        "file": ["train", str(wrong), *world.flags(output)[1:]],
    }.items():
        monkeypatch.setenv("RANK", "0")
        first = refused(capsys, words, 2)
        monkeypatch.setenv("RANK", "3")
        other = refused(capsys, words, 2)
        assert other.startswith("error in process 3: "), name
        assert other.count("\n") == 1
        assert other.strip().removeprefix("error in process 3: ") in first


def test_a_rejected_policy_is_shown_by_the_first_process(
    tmp_path: Path, output: Path, world: World, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "wrong.policy"
    policy.write_text("toxicty <\n")
    words = ["train", str(policy), *world.flags(output)[1:]]
    assert "PC" in refused(capsys, words, 3)
    monkeypatch.setenv("RANK", "1")
    assert refused(capsys, words, 3) == f"error in process 1: {policy} is rejected\n"
