"""The shape of a model: its sizes and how many weights they make, by formula from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from constraintlang_runtime.errors import ModelError

GATED = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2", "phi3", "granite", "smollm3"}
)
PLAIN = frozenset({"gpt2", "gpt_neox"})
ENCODERS = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert"})


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a transformer. ``blocks`` are the weights of its layers' matrices, which every token meets.

    ``linears`` has (name, inputs, outputs) of the matrices of one layer, for adapters; ``norm_width`` the numbers per
    token and layer that norms keep in fp32. ``parameters`` counts a tied head once.
    """

    source: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    gated: bool
    parameters: int
    blocks: int
    linears: tuple[tuple[str, int, int], ...]
    weight_bytes: int
    weight_type: str

    @property
    def head(self) -> int:
        """Weights of the output embeddings, which only sites with logits meet."""
        return self.vocab * self.hidden

    @property
    def attention_width(self) -> int:
        """Numbers of one token's queries in one layer."""
        return self.heads * self.head_dim

    def kv_bytes(self, element: int) -> int:
        """Bytes of keys and values that one token leaves in the cache: 2 · layers · kv_heads · head_dim."""
        return 2 * self.layers * self.kv_heads * self.head_dim * element


def linears_of(
    hidden: int, intermediate: int, queries: int, keys: int, *, gated: bool
) -> tuple[tuple[str, int, int], ...]:
    """The matrices of one layer as (name, inputs, outputs)."""
    attention = (("q_proj", hidden, queries), ("k_proj", hidden, keys), ("v_proj", hidden, keys))
    out = (("o_proj", queries, hidden),)
    up, down = ("up_proj", hidden, intermediate), ("down_proj", intermediate, hidden)
    return (*attention, *out, *((("gate_proj", hidden, intermediate),) if gated else ()), up, down)


def shape_of(config: Mapping[str, Any], source: str) -> ModelShape:
    """The shape that a ``config.json`` describes.

    Equation, layer by layer, as transformers builds these models: q, k, v, o matrices H·(A + 2K) + A·H with
    A = heads·head_dim and K = kv_heads·head_dim; gated MLP 3·H·I, plain MLP 2·H·I; norms, biases and positions as the
    model type has them; embeddings V·H, twice unless tied. A test compares it with models that transformers builds.
    Raises: ModelError for a type without a formula, or a key that is missing.
    """
    config = config.get("text_config") or config
    kind = str(config.get("model_type"))
    if any(config.get(key) for key in ("num_local_experts", "num_experts", "n_routed_experts")):
        raise ModelError(
            f"`{source}` is a mixture of experts, which is not estimated",
            help="give --parameters with its active weights, --hidden, --layers and --vocab",
        )
    if kind not in GATED | PLAIN | ENCODERS:
        raise ModelError(
            f"no formula for the weights of a model of type `{kind}` (`{source}`); known: "
            f"{', '.join(sorted(GATED | PLAIN | ENCODERS))}",
            help="give --parameters, --hidden, --layers and --vocab in place of --model",
        )

    def size(*names: str) -> int:
        for name in names:
            value = config.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
        raise ModelError(
            f"the configuration of `{source}` has no positive `{names[0]}`",
            help="check config.json, or give --parameters, --hidden, --layers and --vocab",
        )

    hidden, layers = size("hidden_size", "n_embd", "dim"), size("num_hidden_layers", "n_layer", "n_layers")
    heads, vocab = size("num_attention_heads", "n_head", "n_heads"), size("vocab_size")
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_dim = int(config.get("head_dim") or hidden // heads)
    if kind == "gpt2":
        intermediate = int(config.get("n_inner") or 4 * hidden)
    else:
        intermediate = size("intermediate_size", "hidden_dim")
    queries, keys = heads * head_dim, kv_heads * head_dim
    linears = linears_of(hidden, intermediate, queries, keys, gated=kind in GATED)
    matrices = sum(inputs * outputs for _, inputs, outputs in linears)
    per_layer = matrices + _norms(kind, hidden, queries, keys, head_dim)
    per_layer += _biases(config, kind, hidden, intermediate, queries, keys)
    tied = bool(config.get("tie_word_embeddings", kind in ("gpt2", "gemma2", "gemma3_text")))
    outside = vocab * hidden * (1 if tied or kind in ENCODERS else 2)
    if kind in GATED:
        outside += hidden
    elif kind in PLAIN:
        outside += 2 * hidden + (size("n_positions") * hidden if kind == "gpt2" else 0)
    else:  # token types, the norm of the embeddings and a classifier's dense layer and labels
        outside += (size("max_position_embeddings") + int(config.get("type_vocab_size") or 0)) * hidden
        outside += 2 * hidden + hidden * hidden + hidden
    weight_type = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return ModelShape(
        source, hidden, intermediate, layers, heads, kv_heads, head_dim, vocab, kind in GATED,
        layers * per_layer + outside, layers * matrices, linears, bytes_of(weight_type, source), weight_type,
    )  # fmt: skip


def _norms(kind: str, hidden: int, queries: int, keys: int, head_dim: int) -> int:
    if kind not in GATED:
        return 4 * hidden  # two norms with scale and shift
    scales = 4 * hidden if kind.startswith("gemma") else 2 * hidden
    if kind in ("qwen3", "gemma3_text"):
        scales += 2 * head_dim
    return scales + (queries + keys if kind == "olmo2" else 0)


def _biases(
    config: Mapping[str, Any], kind: str, hidden: int, intermediate: int, queries: int, keys: int
) -> int:
    own = queries + 2 * keys
    if kind == "qwen2":
        return own
    if kind in GATED:
        attention = own + hidden if config.get("attention_bias") else 0
        return attention + (2 * intermediate + hidden if config.get("mlp_bias") else 0)
    attention = own + hidden if config.get("attention_bias", True) else 0
    return attention + intermediate + hidden


def given_shape(
    parameters: int, hidden: int, layers: int, vocab: int, *, heads: int | None, kv_heads: int | None,
    tied: bool, weight_type: str,
) -> ModelShape:  # fmt: skip
    """The shape of a model that is known by its sizes alone: what embeddings and attention leave is a gated MLP.

    Equation: I = ((parameters - embeddings) / layers - (2H² + 2·H·K)) / 3H, with K = H·kv_heads/heads.
    Raises: ModelError when the sizes contradict each other.
    """
    heads = heads or max(1, hidden // 128)
    kv_heads = kv_heads or heads
    if hidden % heads or kv_heads > heads:
        raise ModelError(
            f"--hidden {hidden}, --heads {heads} and --kv_heads {kv_heads} do not fit: a head takes hidden/heads",
            help="give --heads that divides --hidden, and --kv_heads of at most --heads",
        )
    head_dim = hidden // heads
    embeddings = vocab * hidden * (1 if tied else 2)
    attention = 2 * hidden * hidden + 2 * hidden * kv_heads * head_dim
    intermediate = ((parameters - embeddings) / layers - attention) / (3 * hidden)
    if intermediate < 1:
        raise ModelError(
            f"{parameters:,} weights are too few for {layers} layers of width {hidden} and a vocabulary of {vocab:,}",
            help="check --parameters, --hidden, --layers and --vocab; add --tied when input and output embeddings "
            "are one matrix",
        )
    linears = linears_of(hidden, round(intermediate), hidden, kv_heads * head_dim, gated=True)
    return ModelShape(
        "the sizes given", hidden, round(intermediate), layers, heads, kv_heads, head_dim, vocab, True, parameters,
        parameters - embeddings, linears, bytes_of(weight_type, "--dtype"), weight_type,
    )  # fmt: skip


def bytes_of(weight_type: str, source: str) -> int:
    """Bytes of one weight."""
    sizes = {"float32": 4, "bfloat16": 2, "float16": 2}
    name = weight_type.removeprefix("torch.")
    if name not in sizes:
        raise ModelError(
            f"{source}: weights of type `{weight_type}`, expected one of {', '.join(sizes)}",
            help="quantised weights are not trained",
        )
    return sizes[name]
