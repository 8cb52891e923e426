"""Compare `constraintc estimate` with measured steps and dry runs of random Llamas on this processor.

    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/estimate/run.py

Writes ``results/estimate.json``. Nothing is downloaded; rows are random words of the demo's language.
"""

from __future__ import annotations

import json
import platform
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "estimate.json"
SIZES = {  # hidden, intermediate, layers, heads, vocabulary
    "tiny": (16, 32, 2, 2, 128),
    "small": (256, 704, 6, 4, 4096),
}
PROMPT, COMPLETION, ROWS, BATCH, STEPS = 32, 96, 64, 4, 4
POLICY = """edition 1
attribute toxicity: score in [0, 1] lower_is_better { backend = lexicon("words.tsv") }
kind: toxicity < 0.1 under tolerance=20% for domain=chat
"""
SMALL = {
    "max_steps": STEPS, "rounds": 1, "anchor": "start", "anchor_samples": 64, "control_samples": 32,
    "auxiliary_steps": 5, "set_point_share": 0.5, "max_new_tokens": 64, "per_device_train_batch_size": BATCH,
    "save_strategy": "no", "logging_steps": 1, "learning_rate": 1e-4, "use_cpu": True,
}  # fmt: skip
DRY = {"max_steps": 3}  # as a dry run takes


def write(folder: Path, sizes: tuple[int, int, int, int, int]) -> None:
    """A random Llama with the demo's words, rows and policy."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from constraintlang_runtime.demo import language

    hidden, intermediate, layers, heads, vocab = sizes
    words = ["<pad>", "<end>", "<unk>", *language.vocabulary()]
    words += [f"w{number}" for number in range(vocab - len(words))]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>")
    tokenizer.save_pretrained(
        folder / "model"
    )  # no end token: every sample runs to the cap, as the estimate takes it
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=max(vocab, len(words)), hidden_size=hidden, intermediate_size=intermediate,
        num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads, eos_token_id=None,
        bos_token_id=None, pad_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    draw = random.Random(0)
    known = words[3:]
    rows = [
        {
            "prompt": " ".join(draw.choices(known, k=PROMPT)),
            "completion": " ".join(draw.choices(known, k=COMPLETION)),
            "domain": "chat",
        }
        for _ in range(ROWS)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # 64 random words hold 32 bad ones, give or take 4: a third of the samples has the 34 that violate
    (folder / "words.tsv").write_text("".join(f"{word}\t0.003\n" for word in known[::2]))
    (folder / "my.policy").write_text(POLICY)


def measured(folder: Path, method: str) -> dict[str, float]:
    """Median processor seconds of a step after the first, and those of a whole dry run, loading included.

    Processor time of one thread, so that other work on the machine enters little.
    """
    from transformers import TrainerCallback

    from constraintlang_compiler.pipeline import compile_path
    from constraintlang_runtime import dry_run, train_run
    from constraintlang_runtime.config import ConstraintConfig
    from constraintlang_runtime.run_settings import RunSettings

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.began, self.taken = 0.0, []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.taken.append(time.process_time() - self.began)

    policy = compile_path(folder / "my.policy")
    flags = {**SMALL, "method": method}
    settings = RunSettings(
        str(folder / "model"), (f"chat={folder / 'rows.jsonl'}",), str(folder / "out"), config=flags
    )
    config = ConstraintConfig(output_dir=str(folder / "scratch"), disable_tqdm=True, **flags)
    trainer = train_run.build(policy, settings, config, folder=folder)
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    terms = any(key.startswith("loss_regularizer") for one in trainer.state.log_history for key in one)
    if (method == "constraint") != terms:
        raise RuntimeError(f"{method}: the regularizer {'acted' if terms else 'did not act'}")
    began = time.process_time()
    dry_run.dry_run(policy, settings, folder=folder)
    return {
        "step_seconds": statistics.median(clock.taken[1:]),
        "dry_run_seconds": time.process_time() - began,
    }


def estimated(folder: Path, method: str, machine: Any) -> dict[str, Any]:
    """The same by formula."""
    from constraintlang_compiler.pipeline import compile_path
    from constraintlang_runtime.early_checks import light_names
    from constraintlang_runtime.estimate import estimate as made
    from constraintlang_runtime.estimate.adapters import student_of
    from constraintlang_runtime.estimate.model_source import read_shape
    from constraintlang_runtime.estimate.workload import read_settings, workload

    flags = {key: value for key, value in {**SMALL, **DRY, "method": method}.items() if key in light_names()}
    config, training, _ = read_settings(flags)
    load = workload(
        compile_path(folder / "my.policy").ir, config, training, rows=ROWS, tokens_per_row=PROMPT + COMPLETION,
        prompt_tokens=PROMPT, constrained=None, devices=1,
    )  # fmt: skip
    student = student_of(read_shape(str(folder / "model")), config, training)
    found = made.estimate(student, load, machine, config)
    steps = [phase for phase in found.phases if "steps" in phase.unit]
    return {
        "parameters": student.shape.parameters,
        "step_seconds": [sum(p.best for p in steps), sum(p.worst for p in steps)],
        "step_ratio": [found.step_ratio.best, found.step_ratio.worst],
        "dry_run_seconds": [found.total.best, found.total.worst],
    }


def main() -> None:
    """Every size, both methods."""
    from constraintlang_runtime.estimate.this_machine import measured_cpu

    machine = measured_cpu()
    sizes = {}
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write(folder, size)
            one: dict[str, Any] = {}
            for method in ("plain", "constraint"):
                one[method] = {
                    "measured": measured(folder, method),
                    "estimated": estimated(folder, method, machine),
                }
            steps = {m: one[m]["measured"]["step_seconds"] for m in one}
            one["measured_step_ratio"] = steps["constraint"] / steps["plain"]
            one["estimated_step_ratio"] = one["constraint"]["estimated"]["step_ratio"]
            sizes[name] = one
            print(json.dumps({name: one}, indent=1), flush=True)
    import torch

    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps(
            {
                "flops": machine.flops, "bandwidth": machine.bandwidth, "threads": torch.get_num_threads(),
                "torch": torch.__version__, "machine": platform.machine(), "sizes": sizes,
            },
            indent=1,
        )
        + "\n"
    )  # fmt: skip


if __name__ == "__main__":
    main()
