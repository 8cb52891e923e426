"""What a caller may hand to ``ConstraintTrainer``, by name or ready, turned into what it works with."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.pipeline import compile_path
from constraintlang_runtime.adapters import with_adapter
from constraintlang_runtime.columns import Row
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.integrations.policy import Policy, ScorerLike
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.model_checks import require_causal, require_end
from constraintlang_runtime.scorers.binding import bind_given
from constraintlang_runtime.scorers.protocol import Scorer

logger = logging.getLogger(__name__)
PolicyLike = str | os.PathLike[str] | CompiledPolicy | Policy


def arguments(args: Any) -> ConstraintConfig:
    """The settings, or their defaults. Raises: ConfigError for those of another trainer."""
    if args is None:
        return ConstraintConfig()
    if not isinstance(args, ConstraintConfig):
        raise ConfigError(
            f"args: got a {type(args).__name__}, expected a ConstraintConfig",
            help="ConstraintConfig takes every argument of transformers.TrainingArguments, too",
        )
    return args


NO_EVALUATION = "there is no evaluation loop on rows in training"
MEASURED_BY = (
    "pass heldout=..., which measures budgets and `keep: best`, or run `constraintc eval` afterwards"
)
_OF_OTHERS = {  # arguments of transformers' and TRL's trainers, with what does here what they do there
    "data_collator": "rows are put together here: leave it out, and pass rows of `text`, `prompt` and `completion`, or "
    "`messages`",
    "peft_config": "set lora_r in the ConstraintConfig, or pass a model that has its adapter",
    "formatting_func": "write the rows so before: train_dataset=[{'text': formatting_func(row)} for row in rows]",
    "compute_loss_func": "the loss is that of the language model and the policy: leave it out, or add a "
    "ConstraintCallback to a trainer of your own",
}


def require_used(options: Mapping[str, Any]) -> None:
    """Raise ConfigError for arguments of other trainers that nothing would call or read."""
    for name in ("eval_dataset", "compute_metrics", "preprocess_logits_for_metrics"):
        if options.get(name) is not None:
            raise ConfigError(NO_EVALUATION, help=MEASURED_BY, parameter=name)
    for name, help in _OF_OTHERS.items():
        if options.get(name) is not None:
            raise ConfigError("ConstraintTrainer does not take it", help=help, parameter=name)


def listed_rows(given: Any, name: str) -> list[Row]:
    """The rows of an argument as a list. Raises: DataError for what is no rows."""
    if isinstance(given, str | os.PathLike):
        raise DataError(
            f"{name}: got {str(given)!r}, expected rows", help=f'read the file: {name}=load_rows(["{given}"])'
        )
    if not isinstance(given, Iterable) or isinstance(given, Mapping):
        raise DataError(
            f"{name}: got a {type(given).__name__}, expected rows",
            help='pass load_rows(["FILE"]), a datasets.Dataset, or a list of dictionaries',
        )
    rows = list(given)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(
                f"{name}: row {number} is {str(row)[:60]!r}, expected a dictionary",
                help='write rows such as {"text": ...} or {"prompt": ..., "completion": ...}',
            )
    return rows


def model_and_tokenizer(model: Any, tokenizer: Any, args: ConstraintConfig) -> tuple[Any, Any]:
    """A model and its tokenizer; a folder or hub id is loaded. A model without an adapter gets that of ``lora_r``.

    Raises: ModelError when they cannot be loaded, or cannot be trained; ConfigError when nothing says which tokenizer
    it is, or a ready model is held in another precision than ``train_dtype``, has another attention than
    ``attn_implementation``, or an adapter of another rank than ``lora_r``.
    """
    name = _name(model)
    if tokenizer is None:
        if name is None:
            raise ConfigError(
                "`processing_class` is missing, and the model does not say where it was loaded from",
                help="pass its tokenizer: ConstraintTrainer(..., processing_class=tokenizer)",
            )
        tokenizer = load_tokenizer(name)
    require_end(tokenizer, name)
    if isinstance(model, str | os.PathLike):
        loaded = load_model(
            str(model), tokenizer=tokenizer, dtype=args.held_in, device=args.model_on,
            attention=args.attn_implementation,
        )  # fmt: skip
        model = with_adapter(loaded, args, args.seed, str(model))
    else:
        require_causal(model)
        _require_held_in(model, args)
        _require_attention(model, args)
        if hasattr(model, "peft_config"):
            _require_rank(model, args)
        else:
            model = with_adapter(model, args, args.seed)
    half = {p.dtype for p in model.parameters() if p.requires_grad} & {torch.bfloat16, torch.float16}
    if half and args.train_dtype == "auto":
        logger.warning(
            "trained weights are in %s, where small updates round away: load the model with dtype=torch.float32 and "
            "compute in half precision by bf16=True, or say train_dtype='stored' if that is meant",
            ", ".join(str(one).removeprefix("torch.") for one in half),
        )  # fmt: skip
    return model, tokenizer


def _require_held_in(model: Any, args: ConstraintConfig) -> None:
    """Raise ConfigError for a ready model in another precision than asked for; of an adapter's model the frozen part.

    ``auto`` and ``stored`` take a ready model as it is.
    """
    if args.train_dtype in ("auto", "stored"):
        return
    floats = [p for p in model.parameters() if p.is_floating_point()]
    frozen = [p for p in floats if not p.requires_grad]
    held = {str(p.dtype).removeprefix("torch.") for p in frozen or floats}
    if held - {args.train_dtype}:
        raise ConfigError(
            f"train_dtype: got {args.train_dtype}, and the model is given in {', '.join(sorted(held))}",
            help=f"load it with dtype=torch.{args.train_dtype}, or pass its folder or hub id",
        )


def _require_attention(model: Any, args: ConstraintConfig) -> None:
    """Raise ConfigError for a ready model with another attention than asked for."""
    own, asked = str(model.config._attn_implementation), args.attn_implementation
    stands_in = "flash" in own and "flash" in str(
        asked
    )  # transformers takes a kernel of the hub where one is missing
    if asked not in (None, own) and not stands_in:
        raise ConfigError(
            f"got {args.attn_implementation!r}, and the model is given with {own!r}",
            help=f"load it with attn_implementation={args.attn_implementation!r}, or pass its folder or hub id",
            parameter="attn_implementation",
        )


def _require_rank(model: Any, args: ConstraintConfig) -> None:
    """Raise ConfigError for a ready model whose adapter is not of the rank ``lora_r``; 0 takes it as it is."""
    ranks = {getattr(config, "r", None) for config in model.peft_config.values()}
    if args.lora_r and ranks != {args.lora_r}:
        shown = ", ".join(sorted("no rank" if rank is None else str(rank) for rank in ranks))
        raise ConfigError(
            f"lora_r: got {args.lora_r}, and the model comes with an adapter of {'rank ' * (None not in ranks)}{shown}",
            help="leave lora_r out to train that adapter, or pass the model without it",
        )


def policy_and_scorers(
    policy: PolicyLike, scorers: Mapping[str, ScorerLike] | None, *, model: Any, args: ConstraintConfig
) -> tuple[CompiledPolicy, Mapping[str, Scorer]]:
    """A compiled policy and one scorer per attribute; a path is compiled, a scorer's text is what ``--scorer`` takes.

    Raises: PolicyError, SourceError; ConfigError for an attribute that nothing measures, or for scorers beside a
    ``Policy``, which has its own.
    """
    if isinstance(policy, Policy):
        if scorers:
            raise ConfigError(
                f"`scorers` are given ({', '.join(scorers)}) beside a `Policy`, which has its own",
                help="give them to Policy.load(..., scorers=...)",
            )
        if args.judge_url is not None:
            raise ConfigError(
                f"judge_url: `{args.judge_url}` is given beside a `Policy`, which has its own scorers",
                help="pass the file of the policy in place of the `Policy`",
            )
        return policy.compiled, policy.scorers
    folder = Path()
    if isinstance(policy, str | os.PathLike):
        folder = Path(policy) if Path(policy).is_dir() else Path(policy).parent
        policy = compile_path(policy)
    bound = bind_given(
        policy.ir, scorers or {}, folder=folder, files=policy.files, judge=args.judge, base=_name(model),
        device=args.places_on,
    )  # fmt: skip
    return policy, bound


def _name(model: Any) -> str | None:
    """Folder or hub id of a model, None when it was made in memory."""
    if isinstance(model, str | os.PathLike):
        return str(model)
    return getattr(model, "name_or_path", None) or None
