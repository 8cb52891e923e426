"""The models that score a run's samples, by shape; what has no known size is named and not counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from constraintlang.vocabulary import BACKENDS
from constraintlang_compiler.ir import PolicyIR
from constraintlang_runtime.errors import ModelError
from constraintlang_runtime.estimate.model_shape import ModelShape
from constraintlang_runtime.estimate.model_source import read_shape
from constraintlang_runtime.scorers.binding import parse_scorer_options

WORD_LISTS = (".txt", ".tsv", ".lexicon")


def scorer_shapes(
    ir: PolicyIR, options: Sequence[str], parameters: int | None
) -> tuple[list[ModelShape], list[str]]:
    """Shapes of the scoring models, and a note for each attribute whose scoring is not counted.

    ``parameters`` stand for every model that cannot be read.
    """
    bound = parse_scorer_options(options)
    found: dict[str, ModelShape] = {}
    notes: list[str] = []
    for attribute in ir.attributes:
        backend, path = attribute.backend, None
        if attribute.name in bound:
            path = bound[attribute.name][0]
            if Path(path).suffix in WORD_LISTS:
                path = None
        elif backend is not None:
            path = backend.arguments[0] if BACKENDS[backend.kind].reads == "model" else None
        else:
            path = ""  # a scorer that is not named yet
        if path is None:
            notes.append(f"`{attribute.name}` is counted in the text, at no cost worth a line")
            continue
        try:
            if not path:
                raise ModelError(f"no scorer is given for `{attribute.name}`")
            found[path] = read_shape(path)
        except ModelError as error:
            if parameters is None:
                reason = error.message.partition("\n")[0]
                notes.append(
                    f"scoring of `{attribute.name}` is not counted: {reason}; give --scorer_parameters"
                )
            else:
                found[path or attribute.name] = _of_size(parameters)
                notes.append(f"`{attribute.name}` is scored by {parameters:,} weights in 12 layers")
    return list(found.values()), notes


def _of_size(parameters: int) -> ModelShape:
    """A classifier of which only the weights are known: all of them meet every token, attention left out."""
    return ModelShape(
        "--scorer_parameters", 1, 1, 12, 0, 0, 0, 1, False, parameters, parameters, (), 4, "float32"
    )
