"""The constraint's own settings: one flat set of names for YAML, flags and Python, checked together; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.regularizer_settings import CHOICES as CHOICES
from constraintlang_runtime.regularizer_settings import RegularizerConfig as RegularizerConfig
from constraintlang_runtime.sampling_law import SamplingLaw, stop_texts
from constraintlang_runtime.scorers.judge_settings import JudgeSettings

DEFAULT_TIMEOUT = 600.0

# A setting that was given, and what has to be asked for before anything reads it.
NEEDS: tuple[tuple[str, str, Callable[[ConstraintSettings], bool]], ...] = (
    ("alpha", "divergence alpha", lambda own: own.divergence == "alpha"),
    ("auxiliary_layers", "auxiliary transformer", lambda own: own.auxiliary == "transformer"),
    ("auxiliary_token_odds", "auxiliary head", lambda own: own.auxiliary == "head"),
    ("sampler_folder", "sampler vllm", lambda own: own.sampler == "vllm"),
    ("lora_alpha", "lora_r", lambda own: own.lora_r > 0),
    ("lora_dropout", "lora_r", lambda own: own.lora_r > 0),
    ("lora_target_modules", "lora_r", lambda own: own.lora_r > 0),
)


def check_timeout(seconds: float | None) -> None:
    """Raise ConfigError for a time-out that no call can keep."""
    if seconds is not None and not 0 < seconds < math.inf:
        raise ConfigError(
            f"scorer_timeout: got {seconds}, expected a positive number of seconds",
            help="leave it out for 600 seconds",
        )


def delay_factor(delay: int) -> float:
    """What a gain is multiplied by so that a late measurement leaves the controller as far from instability.

    Equation: an integrator of gain k with n rounds of delay is stable below 2 cos(n π / (2n + 1)); the factor is that
    limit over the one without delay: 1, .5, .31, .22 for n = 0 to 3.
    Source: docs/method.md, "Schedules".
    """
    return math.cos(delay * math.pi / (2 * delay + 1))


@dataclass
class ConstraintSettings:
    """Every setting that transformers does not know; the ``help`` of each field is what ``--help`` prints."""

    method: str = field(
        default="constraint",
        metadata={"help": "constraint, or a baseline: plain fine-tuning, filtering of rows that violate"},
    )
    schedule: str = field(
        default="sequential",
        metadata={"help": "sequential, or parallel: sampling, fitting and training at the same time"},
    )
    staleness: int = field(
        default=1, metadata={"help": "parallel: rounds from a sample to its use in training, 1 to 3"}
    )
    lane_timeout: float = field(
        default=900.0, metadata={"help": "parallel: seconds without a sign of life after which a lane hangs"}
    )
    lane_ranks: int = field(
        default=1,
        metadata={"help": "parallel on several ranks: how many, of the last, sample and fit; 1 or 2"},
    )
    divergence: str = field(
        default="reverse",
        metadata={"help": "KL(model||target) reverse, KL(target||model) forward, js, or alpha between them"},
    )
    alpha: float = field(
        default=0.5, metadata={"help": "order of the alpha divergence: near 0 reverse, near 1 forward"}
    )
    anchor: str = field(
        default="tuned",
        metadata={"help": "p_ref: start model, tuned (snapshot half-way), previous round, current model"},
    )
    training_rows: str = field(
        default="projected",
        metadata={
            "help": "rows that the loss trains on while the regularizer acts: drawn by the weights of the corpus's own "
            "projection onto the policy, or all as given"
        },
    )
    prefixes: str = field(
        default="sampled",
        metadata={"help": "where the regularizer acts: corpus rows, sampled rows, or mixed"},
    )
    adaptive: str = field(
        default="domain", metadata={"help": "one regularizer for all rows (none), per domain, or per prompt"}
    )
    regularizer_weight: float | None = field(
        default=None,
        metadata={
            "help": "weight rho of the regularizer; by rule when not given: 1 (js: 4) with projected rows, else by rate"
        },
    )
    regularizer_rows: int | None = field(
        default=None,
        metadata={
            "help": "sampled rows in each micro-batch; as many as the corpus has of the domain, in a long run fewer, "
            "so that each completion is used about once"
        },
    )
    control_gain: float = field(default=0.5, metadata={"help": "gain of the controller per round"})
    rounds: int = field(default=16, metadata={"help": "rounds of sampling and control over the run"})
    warmup_fraction: float = field(
        default=0.5, metadata={"help": "share of steps before a tuned anchor is taken"}
    )
    anchor_samples: int = field(default=4096, metadata={"help": "completions that fit the auxiliary model"})
    proposals: str = field(
        default="none",
        metadata={
            "help": "draw half of anchor_samples guided to the rarer side of a clause: never (none), when it is below "
            "5% (auto), or always (tilted)"
        },
    )
    control_samples: int = field(
        default=512, metadata={"help": "completions that measure the rate each round"}
    )
    verify_prompts: int = field(
        default=1000, metadata={"help": "prompts of the planned verification; sets the set-point"}
    )
    set_point_share: float | None = field(
        default=None, metadata={"help": "set-point as a share of the bound, in place of the power rule"}
    )
    max_new_tokens: int = field(default=64, metadata={"help": "length cap of sampled completions"})
    temperature: float = field(default=1.0, metadata={"help": "sampling temperature in training"})
    top_p: float = field(default=1.0, metadata={"help": "nucleus mass in training"})
    stop: list[str] | str | None = field(
        default=None,
        metadata={
            "help": "texts where a completion ends, and is judged without; in YAML a text or a list, else a flag "
            "for each"
        },
    )
    sampling_batch_size: int = field(default=256, metadata={"help": "completions sampled together"})
    sampler: str = field(
        default="transformers",
        metadata={
            "help": "transformers in this process, or vllm: a server (not run on hardware; needs lora_r)"
        },
    )
    sampler_url: str | None = field(
        default=None, metadata={"help": "address of the vllm server; its key is in VLLM_API_KEY"}
    )
    sampler_folder: str | None = field(
        default=None, metadata={"help": "folder that the server sees too, for adapters; else a temporary one"}
    )
    sampler_timeout: float = field(
        default=600.0, metadata={"help": "seconds that the server may take for a reply"}
    )
    chat: bool = field(
        default=False,
        metadata={"help": "`prompt` and `completion` texts are turns, by the tokenizer's chat template"},
    )
    max_length: int = field(default=512, metadata={"help": "tokens of a row; longer rows lose their tail"})
    auxiliary: str = field(
        default="head",
        metadata={
            "help": "auxiliary model: a head on hidden states, a transformer of its own, or an adapter of p_ref "
            "(one binary clause)"
        },
    )
    auxiliary_ensemble: int = field(
        default=1,
        metadata={"help": "auxiliary models fitted side by side; the target takes the most pessimistic"},
    )
    auxiliary_layers: int = field(default=2, metadata={"help": "layers of a `transformer` auxiliary model"})
    auxiliary_rank: int = field(
        default=32, metadata={"help": "rank of the auxiliary model's token factors, or of its adapter"}
    )
    auxiliary_width: int = field(default=128, metadata={"help": "width of the auxiliary model"})
    auxiliary_token_odds: bool = field(
        default=True,
        metadata={
            "help": "give a `head` what each token so far says of the verdict, by a regression fitted first"
        },
    )
    auxiliary_steps: int = field(
        default=400,
        metadata={"help": "steps of the auxiliary fit; a refit of a moving anchor has at most a quarter"},
    )
    auxiliary_learning_rate: float = field(default=3e-3, metadata={"help": "its peak learning rate"})
    auxiliary_weight_decay: float = field(default=0.1, metadata={"help": "its decoupled weight decay"})
    auxiliary_dropout: float = field(default=0.1, metadata={"help": "its dropout"})
    auxiliary_batch_size: int = field(default=1024, metadata={"help": "its sites per step"})
    auxiliary_corpus_weight: float = field(
        default=1.0,
        metadata={
            "help": "weight of scored training rows beside samples in its fit; 0: samples alone; with token odds 0 or 1"
        },
    )
    potential_exponent: float | None = field(
        default=None,
        metadata={
            "help": "strength of the auxiliary model's tilt; by rule from what it explains when not given"
        },
    )
    token_masks: str = field(
        default="auto",
        metadata={
            "help": "floor the target at tokens after which an `always` clause about wording must be violated"
        },
    )
    consistency_weight: float = field(
        default=0.0, metadata={"help": "weight of the one-step consistency loss"}
    )
    vargrad_weight: float = field(
        default=0.0,
        metadata={"help": "weight of the path-consistency loss, which is valid for stale samples too"},
    )
    preserve_weight: float = field(
        default=1.0,
        metadata={
            "help": "weight of KL to the start model on rows of `preserve` domains; grows as a budget is spent"
        },
    )
    heldout_rows: int = field(
        default=64,
        metadata={
            "help": "rows kept out of training (5% at most) per `preserve` clause and for `keep: best`; see --heldout"
        },
    )
    keep: str = field(
        default="last",
        metadata={
            "help": "checkpoint that is saved: the last, or the best: clauses first, then held-out loss"
        },
    )
    selection_prompts: int = field(
        default=256,
        metadata={"help": "completions that judge each checkpoint for `keep: best`; see --selection"},
    )
    chunk_sites: int = field(default=1024, metadata={"help": "prediction sites handled at once"})
    loss: str = field(
        default="auto",
        metadata={
            "help": "logits of all tokens at once (plain) or of one chunk of sites (chunked); auto: chunked while a "
            "regularizer acts, and when there is more than one chunk"
        },
    )
    anchor_cache_gib: float = field(
        default=32.0,
        metadata={
            "help": "room below the output folder for hidden states of a frozen anchor, so that it is run once per row "
            "(half of the free disk at most, deleted at the end); 0 runs it at every step"
        },
    )
    packing: bool = field(
        default=False,
        metadata={"help": "lay rows of a micro-batch end to end in fewer sequences; the loss is the same"},
    )
    scorer_timeout: float | None = field(
        default=DEFAULT_TIMEOUT, metadata={"help": "seconds that a scorer may take for a batch of texts"}
    )
    score_cache: str | None = field(
        default=None,
        metadata={
            "help": "folder in which scores are kept for other runs, or off; by default those of judges alone, in the "
            "user's folder for caches"
        },
    )
    judge_url: str | None = field(
        default=None,
        metadata={"help": "address of the server of a judge; its key is in CONSTRAINTLANG_JUDGE_KEY"},
    )
    judge_model: str | None = field(default=None, metadata={"help": "name of the judge on that server"})
    judge_rate: float | None = field(
        default=None,
        metadata={"help": "requests per second to the judge; without it only the limit of eight at once"},
    )
    judge_timeout: float = field(
        default=60.0, metadata={"help": "seconds that a reply of the judge may take"}
    )
    train_dtype: str = field(
        default="auto",
        metadata={
            "help": "precision that the weights are held in: auto is float32 where all are trained, because small "
            "updates round away in half precision (--bf16 still computes in it), and as stored with lora_r"
        },
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={
            "help": "attention that a model is loaded with, as transformers names it (eager, sdpa, flash_attention_2, "
            "a kernel of the hub); without it transformers chooses"
        },
    )
    lora_r: int = field(default=0, metadata={"help": "rank of a LoRA adapter; 0 trains all weights"})
    lora_alpha: float | None = field(
        default=None, metadata={"help": "its scale; twice the rank when not given"}
    )
    lora_dropout: float = field(default=0.0, metadata={"help": "its dropout"})
    lora_target_modules: str = field(
        default="all-linear", metadata={"help": "modules that get an adapter, with commas between them"}
    )

    def check(self) -> None:
        """Raise ConfigError for a wrong value."""
        for name in (
            "method", "schedule", "training_rows", "keep", "token_masks", "sampler", "auxiliary", "proposals",
            "train_dtype",
        ):  # fmt: skip
            if getattr(self, name) not in CHOICES[name]:
                raise ConfigError(
                    f"{name}: got {getattr(self, name)!r}, expected one of {', '.join(CHOICES[name])}"
                )
        if self.staleness not in (1, 2, 3):
            raise ConfigError(f"staleness: got {self.staleness}, expected 1, 2 or 3")
        if self.lane_ranks not in (1, 2):
            raise ConfigError(f"lane_ranks: got {self.lane_ranks}, expected 1 or 2")
        if self.schedule == "sequential" and (self.staleness, self.lane_ranks) != (1, 1):
            raise ConfigError(
                "staleness, lane_ranks: the sequential schedule has neither", help="add --schedule parallel"
            )
        if not 0 < self.lane_timeout < math.inf:
            raise ConfigError(f"lane_timeout: got {self.lane_timeout}, expected a positive number of seconds")
        for name in (
            "anchor_samples", "control_samples", "verify_prompts", "max_new_tokens", "sampling_batch_size",
            "max_length", "auxiliary_rank", "auxiliary_width", "auxiliary_steps", "auxiliary_batch_size",
            "heldout_rows", "selection_prompts", "auxiliary_layers", "auxiliary_ensemble",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected at least 1")
        if not 0 <= self.anchor_cache_gib < math.inf:
            raise ConfigError(f"anchor_cache_gib: got {self.anchor_cache_gib}, expected 0 or more")
        if not 0 < self.warmup_fraction < 1:
            raise ConfigError(f"warmup_fraction: got {self.warmup_fraction}, expected a number in (0, 1)")
        if self.set_point_share is not None and not 0 < self.set_point_share < 1:
            raise ConfigError(f"set_point_share: got {self.set_point_share}, expected a number in (0, 1)")
        check_timeout(self.scorer_timeout)
        self.judge  # noqa: B018
        if (self.sampler == "vllm") != (self.sampler_url is not None):
            raise ConfigError(
                f"sampler: got {self.sampler!r} with sampler_url {self.sampler_url!r}",
                help="--sampler vllm and --sampler_url http://HOST:PORT go together",
            )
        if not 0 < self.sampler_timeout < math.inf:
            raise ConfigError(
                f"sampler_timeout: got {self.sampler_timeout}, expected a positive number of seconds"
            )
        for name in ("consistency_weight", "vargrad_weight", "preserve_weight", "auxiliary_corpus_weight"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected 0 or more")
        if self.has_token_odds and self.auxiliary_corpus_weight not in (0.0, 1.0):
            raise ConfigError(
                f"auxiliary_corpus_weight: got {self.auxiliary_corpus_weight}; token odds count training rows as they "
                "count samples, or not at all",
                help="write 0 or 1, or --auxiliary_token_odds false",
            )
        if self.auxiliary == "adapter" and self.consistency_weight > 0:
            raise ConfigError(
                "consistency_weight: an `adapter` is consistent by construction", help="leave it out"
            )
        if self.potential_exponent is not None and self.potential_exponent <= 0:
            raise ConfigError(
                f"potential_exponent: got {self.potential_exponent}, expected a positive number or nothing"
            )
        if (
            self.lora_r < 0
            or not 0 <= self.lora_dropout < 1
            or (self.lora_alpha is not None and self.lora_alpha <= 0)
        ):
            raise ConfigError(
                f"lora: got r={self.lora_r}, alpha={self.lora_alpha}, dropout={self.lora_dropout}; expected a rank of "
                "at least 0, a positive scale and a dropout in [0, 1)"
            )
        if self.stop and self.sampler == "vllm":
            raise ConfigError("stop: --sampler vllm samples without it", help="leave one of them out")
        for name, needed, value in NEEDS:
            if getattr(self, name) != type(self).__dataclass_fields__[name].default and not value(self):
                raise ConfigError(f"{name}: it has no part without --{needed}", help=f"leave `{name}` out")
        if self.proposals != "none":
            self._check_proposals()
        self.regularizer  # noqa: B018 - checks its own fields
        self.law  # noqa: B018

    def rows_beside(self, wanted: float, *, steps: int, parts: int) -> int:
        """Sampled rows beside a micro-batch: ``regularizer_rows``, else ``wanted`` but no more than the run draws.

        Equation: min(wanted, n / (steps · parts)), n the completions of all rounds, so that a long run uses each about
        once: a row that comes again teaches little and costs what a training row costs. ``wanted`` is the number of the
        corpus's own rows in a micro-batch, ``parts`` the micro-batches of a step over all ranks.
        """
        if self.regularizer_rows is not None:
            return self.regularizer_rows
        drawn = self.anchor_samples + self.rounds * self.control_samples
        return max(1, round(min(wanted, drawn / (steps * parts))))

    def _check_proposals(self) -> None:
        if self.sampler == "vllm":
            raise ConfigError(
                "proposals: samples are guided by the auxiliary model, which --sampler vllm does not run",
                help="use --proposals none or --sampler transformers",
            )
        if self.top_p != 1 or self.temperature == 0:
            raise ConfigError(
                f"proposals: importance weights need every token, got top_p {self.top_p} and temperature "
                f"{self.temperature}",
                help="use --proposals none, or --top_p 1 and a positive --temperature",
            )
        if self.anchor_samples < 4 * self.sampling_batch_size:
            raise ConfigError(
                f"proposals: half of the batches of anchor_samples are proposals, and {self.anchor_samples} samples in "
                f"batches of {self.sampling_batch_size} are fewer than 4 batches",
                help="raise --anchor_samples, lower --sampling_batch_size, or use --proposals none",
            )

    @property
    def regularizer(self) -> RegularizerConfig:
        """The regularizer's settings as one frozen record."""
        return RegularizerConfig(
            divergence=self.divergence,
            anchor=self.anchor,
            prefixes=self.prefixes,
            adaptive=self.adaptive,
            weight=self.regularizer_weight,
            gain=self.control_gain * delay_factor(self.delay),
            rounds=self.rounds,
            chunk_sites=self.chunk_sites,
            alpha=self.alpha,
            loss=self.loss,
        )

    @property
    def has_token_odds(self) -> bool:
        """Whether the auxiliary model is a head that begins at a regression on the tokens."""
        return self.auxiliary == "head" and self.auxiliary_token_odds

    @property
    def held_in(self) -> str | None:
        """The precision that the weights of a loaded model are held in; None leaves them as they are stored."""
        by_rule = "stored" if self.lora_r else "float32"
        wanted = by_rule if self.train_dtype == "auto" else self.train_dtype
        return None if wanted == "stored" else wanted

    @property
    def delay(self) -> int:
        """Rounds from a measurement to its use, beyond those of the sequential schedule."""
        return self.staleness if self.schedule == "parallel" else 0

    @property
    def judge(self) -> JudgeSettings:
        """Where the judge is served that measures attributes of the policy."""
        return JudgeSettings(self.judge_url, self.judge_model, self.judge_rate, self.judge_timeout)

    @property
    def law(self) -> SamplingLaw:
        """The law of the samples drawn in training."""
        return SamplingLaw(self.max_new_tokens, self.temperature, self.top_p, stop=stop_texts(self.stop))
