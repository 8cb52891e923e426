"""Which kinds of model train under a policy: tiny ones with random weights, each built, trained, sampled, saved, reloaded.

Every family is a process of its own. It is built from its own configuration with small sizes, trained for a few steps
on the demo's rows by `constraintc train`'s own code (all weights, the start model as the reference), and its saved
copy must give the same logits. What is said of a family that trains: which path the loss over the vocabulary takes, how
prompts are batched to be sampled, and whether rows may be packed. What is refused is said with the reason.

    python benchmarks/models/run.py                        # the families of FAMILIES, a few minutes of one core
    python benchmarks/models/run.py llama mamba2           # some, whose rows take the place of the stored ones
    python benchmarks/models/run.py --all                  # all causal language models that transformers lists
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FAMILIES = (
    "llama", "qwen2", "qwen3", "qwen3_5_text", "mistral", "ministral3", "gemma", "gemma2", "gemma3_text", "gemma4_text", "phi",
    "phi3", "gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "opt", "bloom", "falcon", "mpt", "codegen", "biogpt", "xglm",
    "stablelm", "starcoder2", "olmo", "olmo2", "olmo3", "granite", "cohere", "cohere2", "glm", "glm4", "smollm3", "nemotron",
    "exaone4", "ernie4_5", "internlm3", "seed_oss", "apertus", "nanochat", "mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss",
    "deepseek_v2", "deepseek_v3", "glm4_moe", "granitemoe", "phimoe", "llama4_text", "ernie4_5_moe", "mamba", "mamba2",
    "falcon_mamba", "falcon_h1", "bamba", "jamba", "zamba2", "lfm2", "recurrent_gemma", "rwkv", "qwen3_next", "xlstm", "bert",
    "roberta", "bart", "xlnet", "reformer",
)  # fmt: skip
SIZES = {  # by the names of configurations; those that a family does not have are left out
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "intermediate_size": 48, "ffn_dim": 48, "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16, "num_hidden_layers": 2, "num_layers": 2, "n_layer": 2, "num_attention_heads": 4,
    "n_head": 4, "num_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "n_positions": 128,
    "num_local_experts": 4, "num_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "moe_k": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "state_size": 8, "mamba_d_state": 8, "n_groups": 1,
    "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "lru_width": 32, "attention_window_size": 64,
    "sliding_window": 64, "decoder_layers": 2, "encoder_layers": 2, "decoder_attention_heads": 4, "encoder_attention_heads": 4,
    "decoder_ffn_dim": 48, "encoder_ffn_dim": 48, "attention_heads": 4, "n_inner": 48, "rotary_dim": 4,
    "hidden_size_per_layer_input": 8, "mamba_expand": 2, "expand": 2, "conv_kernel": 4,
    "num_kv_shared_layers": 0, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "axial_pos_embds": False, "is_decoder": True, "global_head_dim": 8, "dim": 32,
}  # fmt: skip
SPECIAL: dict[str, dict[str, Any]] = {  # what the general sizes do not fit
    "deepseek_v2": {"num_key_value_heads": 4},
    "deepseek_v3": {"num_key_value_heads": 4},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "bamba": {"attn_layer_indices": [1], "mamba_expand": 2},
    "falcon_h1": {"mamba_d_ssm": 64},
    "zamba2": {"hybrid_layer_ids": [1], "layers_block_type": ["mamba", "hybrid"], "mamba_ngroups": 1, "n_mamba_heads": 8, "mamba_headdim": 8},
    "lfm2": {"full_attn_idxs": [1], "block_ff_dim": 48},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "local"], "local_attn_chunk_length": 8, "feed_forward_size": 48, "attention_head_size": 8, "hidden_size": 32, "local_num_chunks_before": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "recurrent_gemma": {"num_hidden_layers": 3, "num_key_value_heads": 1, "w_init_variance_scale": 1.0},
    "falcon": {"new_decoder_architecture": False},
    "llama4_text": {"intermediate_size_mlp": 48, "moe_layers": [1], "no_rope_layers": [1, 0], "attention_chunk_size": 64},
}  # fmt: skip
MOST_PARAMETERS = 20_000_000
TIME_LIMIT = 240


def main() -> None:
    """Run each family in its process, print a line of each, and store all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", help="as transformers names them (default: those of FAMILIES)")
    parser.add_argument(
        "--all", action="store_true", help="all causal language models that transformers lists"
    )
    parser.add_argument("--output", type=Path, default=HERE / "results" / "models.json")
    args = parser.parse_args()
    import torch
    import transformers

    import constraintlang_runtime.train_run  # noqa: F401 - before the processes are forked

    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    families = list(args.families or FAMILIES)
    if args.all:
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        families = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    rows = []
    for family in families:
        rows.append(in_process(family))
        print(line(rows[-1]), flush=True)
    from constraintlang_runtime.versions import versions

    counts = {
        state: sum(row["state"] == state for row in rows) for state in sorted({row["state"] for row in rows})
    }
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    command = "python benchmarks/models/run.py" + (" --all" if args.all else "")
    if args.families and args.output.exists():  # in the place of those families' rows
        before = json.loads(args.output.read_text())
        made = {row["family"]: row for row in rows}
        rows = [made.pop(row["family"], row) for row in before["rows"]] + list(made.values())
        command = before["command"]
    result = {"command": command, "versions": versions(), "rows": rows}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=1) + "\n")


def in_process(family: str) -> dict[str, Any]:
    """The row of a family; what ended without one, or took too long, is a row that says so."""
    context = multiprocessing.get_context("fork")  # it has the imports already
    answers, answer = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(family, answer))
    process.start()
    answer.close()
    reason = f"not done after {TIME_LIMIT} s"
    try:
        if answers.poll(TIME_LIMIT):
            row: dict[str, Any] = answers.recv()
            return row
    except EOFError:
        reason = "its process ended without a word"
    finally:
        process.kill()
        process.join()
    return {"family": family, "state": "failed", "reason": reason}


def _send(family: str, answer: Any) -> None:
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    answer.send(tried(family))


def line(row: dict[str, Any]) -> str:
    """A row as people read it."""
    if row["state"] != "trains":
        return f"{row['family']:18} {row['state']}: {row['reason']}"
    packs = "packs" if row["packs"] is True else f"does not pack: {row['packs']}"
    return f"{row['family']:18} trains, loss {row['loss']}, prompts {row['together']}, {packs}, {row['seconds']} s"


def tried(family: str) -> dict[str, Any]:
    """What comes of a family."""
    started = time.perf_counter()
    row: dict[str, Any] = {"family": family}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        from constraintlang_runtime.demo.files import write_files
        from constraintlang_runtime.errors import RuntimeFailure

        write_files(folder, pretrain_rows=2, train_rows=64)
        try:
            model = built(family, folder)
        except Exception as error:
            return row | {"state": "not built", "reason": first_line(error)}
        try:
            row |= trained(model, folder)
        except RuntimeFailure as error:
            return row | {"state": "refused", "reason": error.message}
        except Exception as error:
            return row | {"state": "failed", "reason": f"{type(error).__name__}: {first_line(error)}"}
    return row | {"state": "trains", "seconds": round(time.perf_counter() - started, 1)}


def first_line(error: Exception) -> str:
    """What an error says first."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def built(family: str, folder: Path) -> Any:
    """A small model of a family, saved beside the demo's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "untrained")
    default = AutoConfig.for_model(family)
    named = {name: value for name, value in SIZES.items() if takes(default, name, value)}
    own = SPECIAL.get(family, {})
    config = AutoConfig.for_model(
        family, **(named | own), vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    with torch.device("meta"):
        number = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if number > MOST_PARAMETERS:
        raise ValueError(f"{number:,} parameters with the sizes that this benchmark knows")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return model


def takes(config: Any, name: str, value: Any) -> bool:
    """Whether a configuration has a size of this name; some raise where they derive it."""
    try:
        if not hasattr(config, name):
            return False
        setattr(config, name, value)
    except Exception:
        return False
    return True


def trained(model: Any, folder: Path) -> dict[str, Any]:
    """Train, save, reload; how it went."""
    import torch

    from constraintlang_compiler.pipeline import compile_path
    from constraintlang_runtime.config import ConstraintConfig
    from constraintlang_runtime.errors import RuntimeFailure
    from constraintlang_runtime.loading import load_model
    from constraintlang_runtime.packing import check_packing
    from constraintlang_runtime.prompt_batches import together
    from constraintlang_runtime.run_parts import configured
    from constraintlang_runtime.run_settings import defaults, settings
    from constraintlang_runtime.train_run import build

    found: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
    given = {
        "model": str(folder / "model"), "data": [str(folder / "data" / "train.jsonl")], "output": str(folder / "out"),
        "max_steps": 4, "rounds": 2, "per_device_train_batch_size": 4, "max_length": 64, "max_new_tokens": 10,
        "anchor": "start", "anchor_samples": 48, "control_samples": 16, "auxiliary_steps": 8, "learning_rate": 1e-3,
        "save_strategy": "no", "use_cpu": True, "set_point_share": 0.5, "loss": "auto", "chunk_sites": 16,
    }  # fmt: skip
    run = settings(given, defaults(ConstraintConfig))
    trainer = build(
        compile_path(folder / "quickstart.policy"), run, configured(run, output_dir=str(folder / "checkpoints")),
        folder=folder,
    )  # fmt: skip
    trainer.engine.is_rehearsal = True  # random weights promise nothing
    trainer.train()
    chunked = trainer._chunked
    found["loss"] = "chunked" if chunked is not None and chunked.supports else "plain"
    found["together"] = together(trainer.model, 0)
    try:
        check_packing(trainer.model)
        found["packs"] = True
    except RuntimeFailure as error:
        found["packs"] = error.message
    trainer.save_model(str(folder / "out"))
    trainer.processing_class.save_pretrained(folder / "out")
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        own = trainer.model.eval()(input_ids=ids).logits
        again = load_model(str(folder / "out"), device="cpu").eval()(input_ids=ids).logits
    if not torch.allclose(own, again, atol=1e-4):
        raise RuntimeError(f"the saved copy has other logits: {float((own - again).abs().max()):.3g}")
    return found


if __name__ == "__main__":
    main()
