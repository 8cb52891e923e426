"""The settings of the regularizer as one frozen record, checked together; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from constraintlang_runtime.errors import ConfigError

CHOICES: dict[str, tuple[str, ...]] = {
    "method": ("constraint", "plain", "filtering"),
    "schedule": ("sequential", "parallel"),
    "divergence": ("forward", "reverse", "js", "alpha"),
    "anchor": ("start", "tuned", "previous", "current"),
    "training_rows": ("projected", "given"),
    "prefixes": ("corpus", "sampled", "mixed"),
    "adaptive": ("none", "domain", "prompt"),
    "keep": ("last", "best"),
    "loss": ("auto", "plain", "chunked"),
    "token_masks": ("auto", "no"),
    "sampler": ("transformers", "vllm"),
    "proposals": ("auto", "none", "tilted"),
    "auxiliary": ("head", "transformer", "adapter"),
    "train_dtype": ("auto", "stored", "float32", "bfloat16", "float16"),
}


@dataclass(frozen=True)
class RegularizerConfig:
    """The settings of the regularizer, checked together; see ``ConstraintConfig`` for their meaning."""

    divergence: str = "reverse"
    anchor: str = "tuned"
    prefixes: str = "sampled"
    adaptive: str = "domain"
    weight: float | None = None
    gain: float = 0.5
    rounds: int = 16
    chunk_sites: int = 1024
    alpha: float = 0.5
    loss: str = "auto"

    def __post_init__(self) -> None:
        for name in ("divergence", "anchor", "prefixes", "adaptive", "loss"):
            value = getattr(self, name)
            if value not in CHOICES[name]:
                raise ConfigError(f"{name}: got {value!r}, expected one of {', '.join(CHOICES[name])}")
        if self.weight is not None and self.weight <= 0:
            raise ConfigError(f"regularizer_weight: got {self.weight}, expected a positive number or nothing")
        if not 0 < self.gain <= 2:
            raise ConfigError(f"control_gain: got {self.gain}, expected a number in (0, 2]")
        if self.rounds < 1:
            raise ConfigError(f"rounds: got {self.rounds}, expected at least 1")
        if self.chunk_sites < 1:
            raise ConfigError(f"chunk_sites: got {self.chunk_sites}, expected at least 1")
        if not 0.01 <= self.alpha <= 0.99:
            raise ConfigError(
                f"alpha: got {self.alpha}, expected a number from 0.01 to 0.99",
                help="its limits are --divergence reverse (0) and --divergence forward (1)",
            )
        if self.adaptive == "prompt" and self.is_moving:
            raise ConfigError(
                "adaptive: `prompt` needs a frozen anchor", help="use --anchor start or --anchor tuned"
            )

    def chunks(self, num_sites: int, *, acts: bool) -> bool:
        """Whether a micro-batch of so many sites is to take the chunked path.

        Where a divergence ``acts`` it is the faster one at any number of sites, because the gradients of several
        terms are formed together and projected once.
        """
        return self.loss == "chunked" or (self.loss == "auto" and (acts or num_sites > self.chunk_sites))

    @property
    def is_moving(self) -> bool:
        """Whether the anchor changes from round to round."""
        return self.anchor in ("previous", "current")
