"""The command that verifies a run names its domains, its start model and its scorers."""

from __future__ import annotations

from constraintlang.source import SourceFile
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.ir import PolicyIR
from constraintlang_runtime.next_command import eval_command
from constraintlang_runtime.run_settings import RunSettings

KIND = "edition 1\nkind: toxicity < 0.1 for domain=chat\n"
FLUENT = "fluent: preserve mean(perplexity) <= 1.02 * base for domain=recipes\n"


def ir(text: str) -> PolicyIR:
    lowered = check_and_lower(SourceFile(text, "my.policy", None)).lowered
    assert lowered is not None
    return lowered.ir


def test_each_domain_has_its_prompts_or_rows() -> None:
    given = RunSettings(
        "gpt2", ("chat=a.jsonl", "recipes=r.jsonl", "chat=b.jsonl"), "runs/x", scorer=("toxicity=D#t",)
    )
    assert eval_command("my.policy", ir(KIND + FLUENT), given) == (
        "constraintc eval my.policy --model runs/x --prompts chat=HELD_OUT.jsonl "
        "--rows recipes=HELD_OUT_ROWS.jsonl --base gpt2 --scorer 'toxicity=D#t' --output runs/x-eval"
    )


def test_files_with_their_own_domains_are_named_plainly() -> None:
    given = RunSettings("gpt2", ("a.jsonl",), "runs/x")
    assert eval_command("my.policy", ir(KIND), given) == (
        "constraintc eval my.policy --model runs/x --prompts HELD_OUT.jsonl --output runs/x-eval"
    )
    relative = ir("edition 1\ntame: mean(toxicity) <= 0.5 * base\n")
    assert "--base gpt2" in eval_command("my.policy", relative, given)


def test_what_was_trained_is_what_is_verified() -> None:
    """The law of the samples, the template and what the run was allowed come along."""
    given = RunSettings(
        "gpt2", ("a.jsonl",), "runs/x", allow_path=True,
        config={"max_new_tokens": 24, "temperature": 0.7, "top_p": 1.0, "chat": True},
    )  # fmt: skip
    assert eval_command("my.policy", ir(KIND), given) == (
        "constraintc eval my.policy --model runs/x --prompts HELD_OUT.jsonl --max_new_tokens 24 --temperature 0.7 "
        "--chat --allow-path --output runs/x-eval"
    )
