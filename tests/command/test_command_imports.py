"""No verb of the floors below the runtime loads torch, and `check` does not even load numpy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LIGHT_VERBS = ("check", "fmt", "fix", "test", "why", "try")
HEAVY = ("torch", "transformers", "accelerate", "datasets", "peft", "safetensors")
SCRIPT = """
import json, sys
before = json.loads(sys.argv[1])
for statement in before:
    exec(statement)
from constraintc.main import main
code = main(sys.argv[2:])
names = sorted(name for name in sys.modules if "." not in name)
print("LOADED " + json.dumps([code, names]), file=sys.stderr)
"""


def loaded_by(*arguments: str, before: tuple[str, ...] = ()) -> tuple[int, set[str]]:
    """The exit code of a command and the top-level modules that it left loaded, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(before), *arguments],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    line = next(line for line in done.stderr.splitlines() if line.startswith("LOADED "))
    code, names = json.loads(line.removeprefix("LOADED "))
    return code, set(names)


POLICY = """edition 1
cap: toxicity < 0.1
avg: mean(toxicity) < 0.1
test "strict" {
  given toxicity = 0.1
  fail on cap
}
"""


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "my.policy"
    path.write_text(POLICY, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "verb",
    [*LIGHT_VERBS, "compile", "explain", "env", "init", "check --sat", "diff", "plan", "lock", "audit"],
)
def test_no_torch(verb: str, policy: str, tmp_path: Path) -> None:
    arguments = {
        "check": [policy],
        "fmt": [policy],
        "fix": [policy],
        "test": [policy],
        "why": [policy, "--scores", "toxicity=0.05"],
        "try": [policy, "--scores", "toxicity=0.05"],
        "compile": [policy, "-o", str(tmp_path / "out")],
        "explain": [policy],
        "env": [],
        "init": [str(tmp_path / "new")],
        "diff": [policy, policy],
    }.get(verb, [policy])
    code, names = loaded_by(*verb.split(), *arguments)
    assert code == 0
    assert not names & set(HEAVY)
    if verb in LIGHT_VERBS:
        assert not names & {"numpy", "scipy", "rich", "yaml"}


@pytest.mark.parametrize("verb", ["check", "compile", "explain"])
def test_reading_a_policy_is_light(verb: str, policy: str, tmp_path: Path) -> None:
    """Each of these verbs starts in 0.2 s; `email` comes with importlib.metadata and importlib.resources."""
    code, names = loaded_by(verb, policy, *(["-o", str(tmp_path / "out")] if verb == "compile" else []))
    assert code == 0
    assert not names & {"numpy", "scipy", "rich", "yaml", "pydantic", "email"}


def test_help_of_the_whole_command_is_light() -> None:
    code, names = loaded_by("--help")
    assert code == 0
    assert not names & {*HEAVY, "numpy", "scipy", "lark", "msgspec"}


def test_train_judges_the_policy_before_it_imports_torch(tmp_path: Path) -> None:
    """The names of the settings are those of transformers, seconds away; a mistake in the policy is not."""
    wrong = tmp_path / "wrong.policy"
    wrong.write_text("edition 1\ncap: toxcity < 0.1\n", encoding="utf-8")
    for policy, expected in ((wrong, 3), (tmp_path / "absent.policy", 2)):
        code, names = loaded_by("train", str(policy), "--model", "m", "--data", "d.jsonl", "--output", "o")
        assert code == expected
        assert not names & set(HEAVY)


def test_this_check_can_fail(policy: str) -> None:
    """A heavy import before the command is seen, so its absence above means something."""
    pretend = "import types; sys.modules['torch'] = types.ModuleType('torch')"
    _, names = loaded_by("check", policy, before=(pretend,))
    assert "torch" in names
    assert "numpy" in loaded_by("check", policy, before=("import numpy",))[1]
