"""Write docs/estimate.md, whose figures the command and its benchmark make: ``python docs/make_estimate.py``."""

# ruff: noqa: E501 - the lines of Markdown tables are long

from __future__ import annotations

import contextlib
import io
import json
import shlex
import tempfile
from pathlib import Path
from typing import Any

from constraintc.main import main

PAGE = Path(__file__).parent / "estimate.md"
MEASURED = PAGE.parents[1] / "benchmarks" / "estimate" / "results" / "estimate.json"
POLICY = "edition 1\nkind: toxicity < 0.1 for domain=chat\n"
SEVEN = "--parameters 7b --hidden 4096 --layers 32 --vocab 128000 --kv_heads 8"
SEVENTY = "--parameters 70b --hidden 8192 --layers 80 --vocab 128000 --kv_heads 8"
ROWS = "--rows 100000 --tokens_per_row 512 --num_train_epochs 1 --scorer_parameters 125m"
LORA = "--lora_r 16 --per_device_train_batch_size 1 --gradient_accumulation_steps 8"
PLAN = (
    (SEVEN, f"--gpu rtx4090 {LORA} --gradient_checkpointing true --sampling_batch_size 64"),
    (SEVEN, "--gpu a100 --lora_r 16 --per_device_train_batch_size 4 --gradient_accumulation_steps 2"),
    (SEVEN, "--gpu h200 --lora_r 16"),
    (SEVEN, "--gpu h200 --per_device_train_batch_size 4 --gradient_accumulation_steps 2 --bf16 true"),
    (SEVEN, "--gpu h100 --gpus 8 --lora_r 16 --per_device_train_batch_size 4"),
    (SEVEN, "--gpu h200 --gpus 8 --per_device_train_batch_size 4 --bf16 true"),
    (SEVEN, "--gpu h200 --gpus 64 --per_device_train_batch_size 4 --bf16 true"),
    (SEVENTY, f"--gpu h200 --gpus 8 {LORA} --gradient_checkpointing true"),
    (
        SEVENTY,
        "--gpu h200 --gpus 64 --per_device_train_batch_size 1 --gradient_checkpointing true --bf16 true",
    ),
)

HEAD = """# What a run costs, before it is started

<!-- Written by docs/make_estimate.py; edit that file, not this page. -->

`constraintc estimate` counts the work of `constraintc train` from the shape of the model, the settings and the policy. It
starts nothing, loads no weights and needs no torch. **Everything it prints is an estimate**; what a machine does is measured
by `constraintc train ... --dry-run`.

```sh
constraintc estimate my.policy --model gpt2 --rows 20000 --tokens_per_row 256
constraintc estimate my.policy --config run.yaml --gpu a100
constraintc estimate my.policy --parameters 7b --hidden 4096 --layers 32 --vocab 128000 --kv_heads 8 \\
    --rows 100000 --tokens_per_row 512 --gpu h200 --gpus 8 --num_train_epochs 1 --scorer_parameters 125m
```

- **The model**: a folder or a hub id (`OWNER/NAME@REVISION` of one revision), of which `config.json` is read (of local weights also the header, so that they are
  counted), or its sizes.
- **The run**: the settings of `train`, from `--config` and as flags, and the number and length of the rows. `--num_train_epochs 1` sets
  the steps so that every row is seen once; without it `max_steps` counts.
- **The machine**: `--gpu` and `--gpus`. Without `--gpu` it is this one: its GPUs as the driver names them, or else its
  processor, whose matrix product and copy are measured for half a second.

It prints each phase with its FLOPs, its time and its formula; the ratio to plain fine-tuning; memory, part by part, and
whether it fits; the prompts that the verification of each statement needs, as `constraintc plan`; and every assumption. With
`--format json` the same as data. Exit code 0 also when the run does not fit.

## Formulas

B are the weights of the layers' matrices, V the vocabulary, H the hidden size, L the layers, A the width of attention, W the
padded length of a row, M the bins and R the rank of the auxiliary model, e the bytes of an activation.

| phase | FLOPs | memory traffic beside the weights |
|---|---|---|
| forward pass | 2·B per token + 4·L·A·W per token + 2·V·H per site with logits (PaLM, arXiv 2204.02311, appendix B) | activations, logits |
| backward pass | twice the forward pass; with LoRA once for what is frozen; with gradient checkpointing one forward pass more | as the passes |
| plain fine-tuning | forward and backward over the rows; logits at every token | loss: 28 + 5e bytes per trained token and vocabulary entry; optimizer: weights, gradients and states once a step |
| sampled rows | forward and backward over the sampled rows of a step, and what padding adds | logits |
| anchor | one forward pass over the same rows, logits at their completion sites; a frozen anchor runs at the first reading of a row alone, as far as `anchor_cache_gib` has room (`estimate/anchor_cache.py`), and then only its output embeddings; a `current` one is the student's own pass | kept states: e·H bytes per site |
| auxiliary and divergence | 2·(M-1)·R·V per site, and a small trunk | 144 + 9e + 24·(M-1) + 36·M bytes per site and vocabulary entry |
| sampling | prompts as a forward pass; then one token per row and pass | per pass: the weights, three times the KV cache, 36 + e bytes per row and vocabulary entry |
| scoring | 2·B + 4·L·A·W per token of every classifier whose size is known | its weights, each 64 texts |
| auxiliary fits | features: a forward pass over samples (and as many rows, without token odds); 4 times the trunk per site and step (3 without token odds); the law at prompts | |

Time is a range. At best arithmetic, memory and kernel launches hide each other and reach the higher share of their peaks; at
worst they follow one another at the lower share. On GPUs these are 25-50% of the dense peak and 40-80% of the bandwidth
(large training runs report 44-52%: arXiv 2104.04473, 2204.02311), on a processor 40-90% of what was measured. A layer costs
0.25-1.5 ms a pass on a GPU whatever its size, which is what small models and small batches pay.

Memory: weights in the type that `train` holds them in (`train_dtype`: float32 where all are trained, as stored with LoRA);
gradients and optimizer states of what is trained (with LoRA the float32 adapters); one snapshot of what is trained for the anchor, one more for `preserve`;
activations by counting what each layer keeps (after arXiv 2205.05198, attention without its matrix); logits and their
gradient; one chunk of the auxiliary model; while sampling the KV cache instead. Each part is printed with its formula.

Not counted: loading, checkpoints, the scoring of word lists and expressions, the reading of rows, fragmentation of memory
(leave a tenth free), and responses that end early (they cost less).

## From one GPU to a cluster

100,000 rows of 512 tokens, half of them prompt, seen once, the other settings as `train` has them, and a classifier of 125 M
weights. Estimates made by the command with `{rows}` and the flags shown; nothing in this table was measured.

"""
BETWEEN = """
What the numbers say:

- **One GPU.** An adapter on a 7B model asks little but its logits and activations. Training all of its weights does not fit
  one H200: held in float32, the default (`train_dtype: auto`), weights, gradients, optimizer and snapshot alone take 130 GiB.
  `--train_dtype stored` keeps bfloat16 weights and takes less, at the price of small updates that round away.
- **One machine.** Rows and samples are divided, so the time falls nearly by the number of GPUs, with the batch growing in
  proportion. Every GPU holds a whole copy (DDP).
- **Many machines.** Two things do not become shorter: the auxiliary fit, which one process makes, and the rounds, which
  have batches for few GPUs (512 samples are two batches of 256; lower `--sampling_batch_size`). Fewer `--rounds`, fewer
  `--auxiliary_steps` and more steps between rounds are the settings to change. Gradients cross the network in every step.
- **Beyond one GPU's memory** weights are divided by FSDP2 ([how](how-to.md#train-a-model-that-one-gpu-does-not-hold)); the column says
  over how many devices. While samples are drawn every GPU has the whole model in the precision of its passes, so that 70B in bfloat16
  asks for more than one H200 whatever their number.

What was run of this, and what was not:

| engine | state |
|---|---|
| one process: full fine-tuning, LoRA, accumulation, gradient checkpointing, bf16 | run on processors, through the command line, with tests that they end in the same weights (bf16: in the same losses) |
| DDP, by `torchrun` or `accelerate launch` | run on two processes of a processor (gloo): the weights of one process; not on several GPUs, not on several machines |
| FSDP2, by `--fsdp true` or `accelerate launch` | run on two processes of a processor (gloo): full fine-tuning and LoRA, every anchor, resumed, to the weights of DDP; not on GPUs |
| FSDP1, DeepSpeed, Megatron, tensor parallelism | refused at the start: the reference model would not be read |
| vLLM as sampler | its protocol run against a fake server in the tests; not on hardware ([how-to](how-to.md#sample-from-a-vllm-server)) |
| sizes of 7B and 70B | none was run; the table above is arithmetic |

The ratio to plain fine-tuning is mostly that of the sampled rows (one beside each of the corpus, in a run of more steps than
its samples last fewer) and of the anchor's forward pass, in the half of the steps in which the regularizer acts. `--prefixes
corpus` leaves the sampled rows out, `--regularizer_rows` sets their number.

## Compared with measurements

Random Llamas on one thread of a processor, 4 rows of 128 tokens and as many sampled rows of 96 to a step, float32. Processor
seconds of a step (median), plain and regularized, against the estimate with the same measured FLOP/s and bandwidth. Made by
`python benchmarks/estimate/run.py` on a busy machine; a smoke test of the formulas and no statement about GPUs. The range
of the ratio is narrow because both sides take the same shares of the peaks. The measured ratios are above it, by a tenth to a
quarter: small operations of the regularizer reach less of the peak than the passes of the model.

"""


def figures(shape: str, flags: str) -> dict[str, Any]:
    """What the command prints for one line of the plan."""
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "my.policy"
        policy.write_text(POLICY, encoding="utf-8")
        words = ["estimate", str(policy), *shlex.split(f"{shape} {ROWS} {flags}"), "--format", "json"]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = main(words)
    if code != 0:
        raise RuntimeError(f"constraintc {shlex.join(words)}: exit code {code}")
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


def between(pair: list[float], scale: float = 1.0) -> str:
    """A range with two digits."""
    low, high = (f"{value / scale:.2g}" if value / scale < 100 else f"{value / scale:.0f}" for value in pair)
    return low if low == high else f"{low} to {high}"


def plan_rows() -> list[str]:
    """The table of the plan."""
    lines = ["| weights | flags | steps | memory of a GPU, GiB | plain, h | the run, h | run / plain |", "|---|---|--:|---|--:|--:|--:|"]  # fmt: skip
    for shape, flags in PLAN:
        found = figures(shape, flags)
        memory = found["memory"]
        room = f"{memory['peak_gib']:.0f} of {memory['device_gib']:.0f}"
        if not memory["fits"]:
            least = memory["least_devices_if_divided"]
            room += f": no; divided over {least} yes" if least else ": no"
        plain = found["phases"][0]["seconds"]
        lines.append(
            f"| {shape.split()[1].upper()} | `{flags}` | {found['run']['steps']:,} | {room} | {between(plain, 3600)} "
            f"| {between(found['seconds'], 3600)} | {between(found['ratio_to_plain'])} |"
        )
    return lines


def measured_rows() -> list[str]:
    """The table of the benchmark."""
    lines = ["| weights | plain step, s | estimated | regularized step, s | estimated | measured ratio | estimated |", "|---|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for one in json.loads(MEASURED.read_text(encoding="utf-8"))["sizes"].values():
        plain, ours = one["plain"], one["constraint"]
        lines.append(
            f"| {ours['estimated']['parameters'] / 1e6:.2f} M | {plain['measured']['step_seconds']:.3f} "
            f"| {between(plain['estimated']['step_seconds'])} | {ours['measured']['step_seconds']:.3f} "
            f"| {between(ours['estimated']['step_seconds'])} | {one['measured_step_ratio']:.2f} "
            f"| {between(one['estimated_step_ratio'])} |"
        )
    dry = ", ".join(
        f"{one['constraint']['measured']['dry_run_seconds']:.1f} s ({between(one['constraint']['estimated']['dry_run_seconds'])})"
        for one in json.loads(MEASURED.read_text(encoding="utf-8"))["sizes"].values()
    )
    return [
        *lines,
        "",
        f"A whole `train --dry-run` under the policy, loading included, and in brackets the estimate of its settings: {dry}.",
    ]


def render() -> str:
    """The whole page."""
    return (
        HEAD.replace("{rows}", ROWS)
        + "\n".join(plan_rows())
        + "\n"
        + BETWEEN
        + "\n".join(measured_rows())
        + "\n"
    )


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
