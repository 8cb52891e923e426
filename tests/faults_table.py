"""What can go wrong around a run, each with the outcome that it must have; ``tests/faults.md`` shows this table.

``tests/runtime/test_runtime_faults.py`` has a function of the same name for each record without a ``test``, which
makes the fault happen. ``python tests/faults_table.py`` writes the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parent / "faults.md"
COMMAND = "python tests/faults_table.py"

AFTER = {
    "resumes": "the checkpoint survives; `--resume` ends in the same bits as a run without the fault",
    "older": "the checkpoint before the damaged one survives; from it `--resume` ends in the same bits",
    "refused": "refused before anything is written",
    "kept": "every file that was there is kept, byte for byte",
    "finite": "no checkpoint has a number that is not finite",
    "works": "no fault to us: the run ends as if it were not there",
}


@dataclass(frozen=True)
class Fault:
    """``says``: what the message must contain. ``test``: an older test that injects it, if there is one."""

    name: str
    fault: str
    where: str
    code: int
    says: tuple[str, ...]
    after: str
    test: str = ""


ERRORS = "tests/command/test_command_errors.py::"
RESUME = "tests/runtime/test_runtime_resume.py::"
PARALLEL = "tests/runtime/test_runtime_parallel.py::"
TOOL = "tests/command/"

FAULTS = (
    # ------------------------------------------------------------ scorers
    Fault(
        "scorer_raises",
        "the scorer raises",
        "second call",
        4,
        ("scorer toxicity", "ConnectionError: down"),
        "resumes",
    ),
    Fault(
        "scorer_nan",
        "the scorer returns NaN",
        "second call",
        4,
        ("scorer toxicity", "returned nan"),
        "resumes",
    ),
    Fault(
        "scorer_infinite", "the scorer returns an infinity", "second call", 4, ("returned inf",), "resumes"
    ),
    Fault(
        "scorer_short",
        "the scorer returns too few scores",
        "second call",
        4,
        ("scores for", "one float or None"),
        "resumes",
    ),
    Fault(
        "scorer_out_of_range",
        "the scorer returns 1.5 where [0, 1] is declared",
        "second call",
        4,
        ("returned 1.5", "outside the declared range [0, 1]"),
        "resumes",
    ),
    Fault(
        "scorer_none",
        "the scorer has no score for a text",
        "second call",
        4,
        ("no score", "cannot guess"),
        "resumes",
    ),
    Fault(
        "scorer_garbage",
        "the scorer returns garbage at random",
        "every call",
        4,
        ("scorer toxicity",),
        "resumes",
    ),
    Fault(
        "scorer_hangs",
        "the scorer never returns",
        "second call",
        4,
        ("scorer toxicity", "did not return within 0.3 seconds", "--scorer_timeout"),
        "resumes",
    ),
    Fault(
        "scorer_hangs_in_eval",
        "the scorer never returns",
        "`eval`",
        4,
        ("did not return within 0.3 seconds",),
        "kept",
    ),
    Fault(
        "scorer_hangs_in_generate",
        "the scorer never returns",
        "`generate --reject`",
        4,
        ("did not return within 0.3 seconds",),
        "kept",
    ),
    Fault(
        "scorer_exits",
        "the scorer calls `sys.exit(0)`",
        "second call",
        4,
        ("tried to end the process",),
        "resumes",
    ),
    Fault(
        "scorer_dies_in_eval",
        "the scorer raises",
        "second batch of `eval`",
        4,
        ("ConnectionError: down",),
        "kept",
    ),
    Fault(
        "scorer_text",
        "the scorer returns a text",
        "first call",
        4,
        ("a float or None",),
        "resumes",
        ERRORS + "test_scorers_that_fail",
    ),
    # ------------------------------------------------------------ disk
    Fault(
        "disk_full_weights",
        "the disk is full",
        "the weights of a checkpoint",
        4,
        ("cannot write the checkpoint of step 8", "free", "--resume"),
        "resumes",
    ),
    Fault(
        "disk_full_optimizer",
        "the disk is full",
        "the optimizer's state in a checkpoint",
        4,
        ("cannot write the checkpoint of step 8", "--resume"),
        "resumes",
    ),
    Fault(
        "disk_full_state",
        "the disk is full",
        "the constraint's state in a checkpoint",
        4,
        ("cannot write the checkpoint of step 8", "--resume"),
        "resumes",
    ),
    Fault(
        "disk_full_anchor",
        "the disk is full",
        "the reference model in a checkpoint",
        4,
        ("cannot write the checkpoint of step 8", "--resume"),
        "resumes",
    ),
    Fault(
        "disk_full_publish",
        "no space for a directory entry",
        "publishing a checkpoint",
        4,
        ("cannot write the checkpoint of step 8", "No space left on device"),
        "resumes",
    ),
    Fault(
        "disk_full_final",
        "the disk is full",
        "the last save",
        4,
        ("cannot write the trained model", "--resume"),
        "resumes",
    ),
    Fault(
        "disk_full_record",
        "the disk is full",
        "`run.json`",
        4,
        ("cannot write the trained model", "No space left on device"),
        "resumes",
    ),
    Fault(
        "disk_full_eval",
        "the disk is full",
        "`eval --output`",
        4,
        ("cannot write", "No space left on device"),
        "kept",
    ),
    Fault(
        "output_unwritable",
        "the output folder cannot be written",
        "start of `train`",
        2,
        ("--output", "cannot write"),
        "refused",
    ),
    Fault(
        "report_unwritable",
        "the page cannot be written",
        "`report --output`",
        2,
        ("--output", "cannot write"),
        "kept",
    ),
    # ------------------------------------------------------------ checkpoints
    Fault(
        "truncated_state",
        "`constraint.safetensors` is cut short",
        "`--resume`",
        4,
        ("checkpoint-6", "constraint", "delete"),
        "older",
    ),
    Fault(
        "truncated_anchor",
        "`anchor.safetensors` is cut short",
        "`--resume`",
        4,
        ("checkpoint-6/anchor.safetensors",),
        "older",
    ),
    Fault(
        "missing_anchor", "`anchor.safetensors` is gone", "`--resume`", 4, ("anchor.safetensors",), "older"
    ),
    Fault(
        "truncated_weights",
        "`model.safetensors` is cut short",
        "`--resume`",
        4,
        ("checkpoint-6", "model", "delete"),
        "older",
    ),
    Fault(
        "missing_weights",
        "`model.safetensors` is gone",
        "`--resume`",
        4,
        ("checkpoint-6", "model.safetensors"),
        "older",
    ),
    Fault(
        "fewer_weights",
        "`model.safetensors` lacks a tensor",
        "`--resume`",
        4,
        ("out/checkpoints/checkpoint-6`", "model.norm.weight"),
        "older",
    ),
    Fault(
        "missing_trainer_state",
        "`trainer_state.json` is gone",
        "`--resume`",
        4,
        ("trainer_state.json", "delete"),
        "older",
    ),
    Fault(
        "corrupt_trainer_state",
        "`trainer_state.json` is half a file",
        "`--resume`",
        4,
        ("trainer_state.json",),
        "older",
    ),
    Fault(
        "corrupt_state",
        "`constraint.json` is half a file",
        "`--resume`",
        4,
        ("checkpoint-6", "constraint"),
        "older",
    ),
    Fault(
        "foreign_state",
        "`constraint.json` is JSON with other keys",
        "`--resume`",
        4,
        ("checkpoint-6", "constraint"),
        "older",
    ),
    Fault(
        "older_state",
        "`constraint.json` is of another version",
        "`--resume`",
        4,
        ("checkpoint-6", "version 4", "reads version 5"),
        "older",
    ),
    Fault(
        "missing_optimizer",
        "`optimizer.pt` is gone",
        "`--resume`",
        4,
        ("checkpoint-6", "optimizer.pt"),
        "older",
    ),
    Fault(
        "truncated_optimizer",
        "`optimizer.pt` is cut short",
        "`--resume`",
        4,
        ("checkpoint-6", "optimizer"),
        "older",
    ),
    Fault(
        "hostile_optimizer",
        "`optimizer.pt` is a pickle that runs code",
        "`--resume`",
        4,
        ("checkpoint-6", "optimizer"),
        "older",
    ),
    Fault(
        "missing_random_state",
        "`rng_state.pth` is gone",
        "`--resume`",
        4,
        ("checkpoint-6", "rng_state.pth"),
        "older",
    ),
    Fault(
        "other_policy",
        "the policy changed after the checkpoint",
        "`--resume`",
        2,
        ("another policy",),
        "resumes",
    ),
    Fault(
        "other_rows",
        "the rows changed after the checkpoint",
        "`--resume`",
        2,
        ("another policy, word list, model, data or settings",),
        "resumes",
    ),
    Fault(
        "other_start_model",
        "the start model's weights changed after the checkpoint",
        "`--resume`",
        2,
        ("another policy, word list, model, data or settings",),
        "resumes",
    ),
    Fault(
        "other_model_size",
        "the checkpoint is of a model of another size",
        "`--resume`",
        4,
        ("checkpoint-6", "size mismatch"),
        "older",
    ),
    Fault(
        "other_settings",
        "the settings changed after the checkpoint",
        "`--resume`",
        2,
        ("another",),
        "kept",
        RESUME + "test_resuming_with_other_settings_is_refused",
    ),
    Fault(
        "word_list_changed",
        "the word list changed after the checkpoint",
        "`--resume`",
        2,
        ("word list",),
        "resumes",
    ),
    Fault("word_list_gone", "the word list is gone", "`--resume`", 2, ("words.tsv",), "resumes"),
    # ------------------------------------------------------------ stops
    Fault(
        "sigkill",
        "SIGKILL",
        "between two checkpoints",
        -9,
        (),
        "resumes",
        RESUME + "test_sigkill_of_a_real_process",
    ),
    Fault(
        "sigkill_in_checkpoint",
        "SIGKILL",
        "half-way through a checkpoint",
        -9,
        (),
        "resumes",
        RESUME + "test_a_killed_run_ends_in_the_same_bits",
    ),
    Fault("sigterm", "SIGTERM", "a round", -15, (), "resumes"),
    Fault("control_c", "Ctrl-C", "sampling", 130, ("interrupted", "--resume"), "resumes"),
    Fault(
        "control_c_in_checkpoint",
        "Ctrl-C",
        "half-way through a checkpoint",
        130,
        ("interrupted", "--resume"),
        "resumes",
    ),
    Fault(
        "device_memory",
        "the device runs out of memory",
        "a step",
        4,
        ("out of memory at step 7", "--per_device_train_batch_size"),
        "resumes",
    ),
    # ------------------------------------------------------------ lanes of the parallel schedule
    Fault(
        "sigkill_training_lane",
        "SIGKILL of the rank that trains, with no launcher to look after the others",
        "a step",
        -9,
        (),
        "resumes",
        PARALLEL + "test_a_rank_that_is_killed_or_hangs_ends_the_run",
    ),
    Fault(
        "sigkill_sampling_lane",
        "SIGKILL of the rank of the sampling lane",
        "sampling",
        4,
        ("sampling lane", "is gone"),
        "resumes",
        PARALLEL + "test_a_rank_that_is_killed_or_hangs_ends_the_run",
    ),
    Fault(
        "sigkill_fitting_lane",
        "SIGKILL of the rank of the fitting lane",
        "the fit",
        4,
        ("lane", "is gone"),
        "resumes",
        PARALLEL + "test_a_rank_that_is_killed_or_hangs_ends_the_run",
    ),
    Fault(
        "rank_hangs",
        "the rank of a lane hangs and stays alive",
        "sampling",
        4,
        ("the sampling lane hangs", "--lane_timeout"),
        "resumes",
        PARALLEL + "test_a_rank_that_is_killed_or_hangs_ends_the_run",
    ),
    Fault(
        "lane_hangs",
        "the thread of a lane hangs",
        "sampling",
        4,
        ("the sampling lane hangs", "--lane_timeout"),
        "resumes",
        PARALLEL + "test_a_lane_that_hangs_is_noticed",
    ),
    Fault(
        "lane_raises",
        "a lane raises what nobody foresaw",
        "sampling, the fit",
        4,
        ("lane failed in round",),
        "resumes",
        PARALLEL + "test_an_error_in_a_lane_ends_the_run",
    ),
    Fault(
        "lane_results_gone",
        "`pending.json` is gone",
        "`--resume`",
        4,
        ("the lanes' results cannot be read",),
        "older",
        PARALLEL + "test_a_checkpoint_without_the_lanes_results_is_damaged",
    ),
    # ------------------------------------------------------------ numbers
    Fault(
        "nan_batch",
        "the loss of a batch is NaN",
        "a step",
        4,
        ("the loss is nan at step 7", "--learning_rate"),
        "resumes",
    ),
    Fault(
        "nan_weights",
        "a weight of the start model is NaN",
        "start of `train`",
        2,
        ("NaN", "model.norm.weight"),
        "refused",
    ),
    Fault(
        "nan_weights_in_eval",
        "a weight of the judged model is NaN",
        "`eval`",
        2,
        ("NaN", "model.norm.weight"),
        "kept",
    ),
    Fault(
        "nan_checkpoint",
        "the weights become NaN in the step before a checkpoint",
        "checkpoint",
        4,
        ("NaN", "step 8", "--learning_rate"),
        "resumes",
    ),
    Fault("diverges", "the learning rate is 1e30", "the first steps", 4, ("--learning_rate",), "finite"),
    # ------------------------------------------------------------ models
    Fault(
        "large_tokenizer",
        "the tokenizer has ids beyond the model's vocabulary",
        "start of `train`",
        2,
        ("tokenizer", "20"),
        "refused",
        ERRORS + "test_a_tokenizer_larger_than_its_model",
    ),
    Fault("no_end_token", "the tokenizer has no end token", "`train`", 2, ("end-of-sequence",), "refused"),
    Fault(
        "no_weights",
        "the model folder has no weights",
        "start of `train`",
        2,
        ("cannot load", "model.safetensors"),
        "refused",
    ),
    Fault(
        "pickled_weights",
        "the model folder has only `pytorch_model.bin`, a pickle",
        "start of `train`",
        2,
        ("cannot load", "model.safetensors"),
        "refused",
    ),
    Fault(
        "torn_weights",
        "`model.safetensors` of the start model is cut short",
        "start of `train`",
        2,
        ("cannot load", "torn"),
        "refused",
    ),
    # ------------------------------------------------------------ rows and prompts
    Fault(
        "no_prompts",
        "the prompts file is empty",
        "start of `train`",
        2,
        ("--prompts", "has no rows"),
        "refused",
    ),
    Fault(
        "no_prompt_in_domain",
        "no prompt lies in the clause's domain",
        "start of `train`",
        2,
        ("no prompt lies in the domain of `kind`", "kitchen"),
        "refused",
    ),
    Fault(
        "long_prompt",
        "a prompt is longer than `max_length`",
        "start of `train`",
        2,
        ("has 70 tokens", "max_length is 64"),
        "refused",
    ),
    Fault(
        "rows_no_json",
        "a row is not JSON",
        "start of `train`",
        2,
        ("line 2", "not JSON"),
        "refused",
        ERRORS + "test_wrong_rows",
    ),
    Fault(
        "rows_latin",
        "the rows are not UTF-8",
        "start of `train`",
        2,
        ("UTF-8",),
        "refused",
        ERRORS + "test_wrong_rows",
    ),
    Fault("rows_with_mark", "the rows begin with a byte order mark", "`train`", 0, (), "works"),
    Fault("empty_completions", "the model answers every prompt with nothing", "`train`", 0, (), "works"),
    Fault(
        "infeasible",
        "no tilt of the model meets the bound",
        "first fit",
        4,
        ("clause `kind` cannot be met", "loosen the bound"),
        "kept",
        ERRORS + "test_a_bound_that_cannot_be_met",
    ),
    # ------------------------------------------------------------ reports
    Fault(
        "truncated_samples",
        "`samples.jsonl` is cut short",
        "`report`",
        2,
        ("samples.jsonl", "line", "not JSON"),
        "kept",
    ),
    Fault(
        "truncated_verdict",
        "`verdict.json` is cut short",
        "`report`",
        2,
        ("verdict.json", "not JSON"),
        "kept",
    ),
    Fault(
        "foreign_verdict", "`verdict.json` is JSON with other keys", "`report`", 2, ("verdict.json",), "kept"
    ),
    Fault("samples_gone", "`samples.jsonl` is gone", "`report`", 2, ("samples.jsonl",), "kept"),
)


def table() -> list[str]:
    """The lines of the page's table."""
    lines = [
        "| | fault | strikes | exit code | the message says | afterwards |",
        "|---:|---|---|---:|---|---|",
    ]
    for number, fault in enumerate(FAULTS, start=1):
        says = ", ".join(f"`{part.replace('`', '')}`" for part in fault.says) or (
            "" if fault.code else "nothing"
        )
        lines.append(
            f"| {number} | {fault.fault} | {fault.where} | {fault.code} | {says} | {AFTER[fault.after]} |"
        )
    return lines


def page() -> str:
    """The whole page."""
    return "\n".join([
        "# Faults, and what must come of them",
        "",
        f"<!-- Written by `{COMMAND}` from tests/faults_table.py; edit the records, not this page. -->",
        "",
        "Each fault is made to happen by `tests/runtime/test_runtime_faults.py` through the command, or by the older",
        "test that its record names. No run hangs beyond its time-out, no message is a traceback, and a checkpoint",
        "that was whole before the fault is the same, byte for byte, after it. For some faults of each family the run",
        "is resumed and ends in the same bits. A negative exit code is the signal that ended the process.",
        "",
        *table(),
        "",
    ])  # fmt: skip


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
