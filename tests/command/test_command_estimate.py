"""``constraintc estimate`` as a user meets it: tables, JSON with stable keys, settings, errors with help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_models import World

from constraintc import estimate_output
from constraintc.main import main

Captured = pytest.CaptureFixture[str]
SEVEN = ("--parameters", "7b", "--hidden", "4096", "--layers", "32", "--vocab", "128000")
ROWS = ("--rows", "1000", "--tokens_per_row", "256")
KEYS = {
    "assumptions", "flops_ratio", "machine", "memory", "model", "phases", "prompts", "ratio_to_plain", "run", "seconds",
    "step_ratio", "verification",
}  # fmt: skip
PHASES = [
    "plain fine-tuning", "sampled rows", "anchor", "auxiliary and divergence", "sampling", "scoring", "auxiliary fits",
]  # fmt: skip


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "my.policy"
    path.write_text("edition 1\nkind: toxicity < 0.1 for domain=chat\n", encoding="utf-8")
    return str(path)


def run(capsys: Captured, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["estimate", *words])
    return code, *capsys.readouterr()


def found(capsys: Captured, *words: str) -> dict[str, Any]:
    code, out, err = run(capsys, *words, "--format", "json")
    assert code == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def test_the_json_has_stable_keys(policy: str, capsys: Captured) -> None:
    result = found(capsys, policy, *SEVEN, *ROWS, "--gpu", "h100", "--gpus", "8")
    assert set(result) == KEYS
    assert [phase["name"] for phase in result["phases"]] == PHASES
    for phase in [*result["phases"], result["verification"]]:
        assert set(phase) == {"name", "times", "unit", "flops", "bytes_per_device", "seconds", "formula"}
        assert phase["formula"]
    assert set(result["memory"]) == {
        "parts", "host", "peak_gib", "device_gib", "fits", "if_divided", "least_devices_if_divided",
    }  # fmt: skip
    for part in [p for parts in result["memory"]["parts"].values() for p in parts]:
        assert set(part) == {"name", "gib", "formula"}
        assert part["formula"]
    assert result["prompts"]["domains"] == {"chat": 506}
    assert result["verification"]["formula"].startswith("506 ")
    assert result["model"]["parameters"] == 7_000_000_000
    assert result["machine"]["devices"] == 8
    assert result["run"]["passes"] == pytest.approx(1000 * 8 * 8 / 1000)


def test_the_tables_say_what_they_rest_on(policy: str, world: World, capsys: Captured) -> None:
    code, out, _ = run(capsys, policy, "--model", str(world.model), *ROWS, "--gpu", "cpu")
    assert code == 0
    for phase in PHASES:
        assert f"\n{phase} " in out
    for said in (
        "measured here", "weights counted", "it fits", "against plain fine-tuning", "\nassumed:\n- ", "of which",
        "chat: 506 prompts verify", "scoring of `toxicity` is not counted", "FLOPs",
    ):  # fmt: skip
        assert said in out, said


def test_settings_are_those_of_train(policy: str, tmp_path: Path, capsys: Captured) -> None:
    base = (policy, *SEVEN, *ROWS, "--gpu", "a100")
    (tmp_path / "run.yaml").write_text(
        "model: gone\ndata: rows.jsonl\noutput: out\nmax_steps: 40\nlora_r: 8\n"
    )
    result = found(capsys, *base, "--config", str(tmp_path / "run.yaml"))
    assert result["run"]["steps"] == 40
    assert 0 < result["model"]["adapter"] == result["model"]["trained"]
    whole = found(capsys, *base, "--max_steps", "40")
    assert result["memory"]["peak_gib"] < whole["memory"]["peak_gib"]
    assert (
        found(capsys, *base, "--config", str(tmp_path / "run.yaml"), "--max_steps", "80")["run"]["steps"]
        == 80
    )
    assert found(capsys, *base, "--num_train_epochs", "2", "--rounds", "4")["run"]["steps"] == 250
    plain = found(capsys, *base, "--max_steps", "40", "--method", "plain", "--logging_steps", "5")
    assert plain["run"]["active_steps"] == 0
    assert found(capsys, *base, "--bf16")["model"]["weights"] == "float32"
    assert found(capsys, *base, "--bf16", "--train_dtype", "stored")["model"]["weights"] == "bfloat16"


def test_a_classifier_is_counted(policy: str, classifier: Path, capsys: Captured) -> None:
    base = (policy, *SEVEN, *ROWS, "--gpu", "a100")
    none = found(capsys, *base)["phases"][5]
    local = found(capsys, *base, "--scorer", f"toxicity={classifier}#rude")["phases"][5]
    given = found(capsys, *base, "--scorer_parameters", "125m")["phases"][5]
    assert none["seconds"] == [0, 0]
    assert 0 < local["flops"] < given["flops"]
    texts = 9 * 512 + 4096 + 1000 + 1000  # the first round, and those after the anchor's
    assert given["flops"] == 2 * 125e6 * 64 * texts


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*ROWS,), "the model is missing"),
        ((*ROWS, *SEVEN[:6]), "--vocab is missing"),
        ((*ROWS, *SEVEN, "--model", "x"), "both say what the model is"),
        ((*ROWS, *SEVEN, "--gpu", "tpu"), "expected one of h200"),
        ((*ROWS, *SEVEN, "--gpu", "cpu", "--gpus", "2"), "--gpus: got 2"),
        ((*ROWS, *SEVEN, "--gpu", "a100", "--gpus", "0"), "--gpus: got 0"),
        ((*ROWS, *SEVEN, "--gpu", "a100", "--max_stepz", "2"), "a similar setting exists: `max_steps`"),
        ((*ROWS, *SEVEN, "--gpu", "a100", "--prompt_tokens", "256"), "one token on either side"),
        ((*ROWS, *SEVEN, "--gpu", "a100", "--optim", "adafactor"), "`adafactor` is not known"),
        ((*ROWS, "--model", "no/such-model", "--gpu", "a100"), "--parameters 7b"),
    ],
)
def test_errors_say_what_to_do(policy: str, capsys: Captured, words: tuple[str, ...], said: str) -> None:
    code, out, err = run(capsys, policy, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert "help:" in err


@pytest.mark.parametrize("count", ["7q", "", "b", "-3b", "nan", "1e30"])
def test_a_number_of_weights_is_checked(policy: str, capsys: Captured, count: str) -> None:
    code, _, err = run(capsys, policy, *ROWS, "--parameters", count)
    assert code == 2
    assert "expected a number of weights" in err or "expected one argument" in err


def test_a_policy_with_mistakes_is_rejected(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "bad.policy"
    path.write_text("edition 1\nkind: toxcity < 0.1\n")
    code, _, err = run(capsys, str(path), *ROWS, *SEVEN)
    assert code == 3
    assert "PC101" in err


def test_no_torch_is_loaded(policy: str, world: World) -> None:
    script = (
        "import sys\nfrom constraintc.main import main\ncode = main(sys.argv[1:])\n"
        "heavy = sorted({'torch', 'transformers', 'peft', 'safetensors'} & set(sys.modules))\n"
        "print(code, heavy, file=sys.stderr)"
    )
    words = ("estimate", policy, "--model", str(world.model), *ROWS, "--gpu", "h100", "--lora_r", "4")
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.stderr.splitlines()[-1] == "0 []"


def test_spans() -> None:
    assert estimate_output.span(0.0005, 0.001) == "0.5-1 ms"
    assert estimate_output.span(7200, 72000) == "2-20 h"
    assert estimate_output.between(2.0, 2.0001) == "2"


def test_a_configuration_that_names_model_and_data_is_enough(
    policy: str, tmp_path: Path, capsys: Captured
) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = {"model_type": "llama", "vocab_size": 2, **sizes, "tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    rows = [{"prompt": "a " * 4, "completion": "a " * 9}, {"prompt": "a " * 8, "completion": "a " * 17}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(lines)
    (tmp_path / "run.yaml").write_text(
        f"model: {tmp_path}\ndata: chat={tmp_path}/rows.jsonl\nmax_steps: 20\noutput: out\n"
    )
    given = ("--config", str(tmp_path / "run.yaml"), "--gpu", "h100")
    own = found(capsys, policy, *given)
    # rows of 4 + 9 + 1 and 8 + 17 + 1 tokens
    counted = ("--rows", "2", "--tokens_per_row", "20", "--prompt_tokens", "6")
    assert own["phases"] == found(capsys, policy, *given, *counted)["phases"]
    assert own["phases"] != found(capsys, policy, *given, "--rows", "2", "--tokens_per_row", "40")["phases"]
    assert any("2 rows of 20 tokens, 6 of them a prompt" in line for line in own["assumptions"])
    (tmp_path / "tokenizer.json").unlink()
    code, _, err = run(capsys, policy, *given)
    assert (code, "give --tokens_per_row and --prompt_tokens" in err) == (2, True)
    code, _, err = run(capsys, policy, *SEVEN)
    assert (code, "`data:`" in err) == (2, True)
