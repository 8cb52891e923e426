"""From a policy's attributes and the user's ``--scorer`` options to ready scorers."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from constraintlang.vocabulary import MODEL_BACKENDS
from constraintlang_compiler.attributes import attributes_needed
from constraintlang_compiler.ir import AttributeRecord, PolicyIR
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.missing_paths import looked, require_folder
from constraintlang_runtime.scorers.builders import TEXT_BACKENDS, Place, builder_of, policy_file
from constraintlang_runtime.scorers.classifier import ClassifierScorer
from constraintlang_runtime.scorers.judge_settings import JudgeSettings
from constraintlang_runtime.scorers.lexicon import lexicon_scorer, read_lexicon
from constraintlang_runtime.scorers.perplexity import of_start_model
from constraintlang_runtime.scorers.protocol import Scorer


def parse_scorer_options(options: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    """``["toxicity=PATH#LABEL"]`` -> {"toxicity": (PATH, LABEL)}; ConfigError for another form or a repetition."""
    bound: dict[str, tuple[str, str | None]] = {}
    for option in options:
        name, equals, target = option.partition("=")
        if not equals or not name or not target:
            raise ConfigError(f"got {option!r}, expected NAME=PATH or NAME=PATH#LABEL", parameter="scorer")
        if name in bound:
            raise ConfigError(f"`{name}` is given twice", help="keep one of them", parameter="scorer")
        path, hash_mark, label = target.partition("#")
        bound[name] = (path, label if hash_mark else None)
    return bound


def bind_scorers(
    policy: PolicyIR,
    options: Mapping[str, tuple[str, str | None]],
    ready: Mapping[str, Scorer] | None = None,
    *,
    folder: Path,
    files: Mapping[str, Path] | None = None,
    allow_path: bool = False,
    allow_code: bool = False,
    allow_plugins: bool = False,
    judge: JudgeSettings | None = None,
    base: str | None = None,
    device: str | None = None,
) -> dict[str, Scorer]:
    """One scorer per attribute of the policy, and one per attribute that is read on the base model, ``a@base``.

    A ready callable wins over an option, an option over the backend written in the policy. ``files`` are the word
    lists that the compiler found (``CompiledPolicy.files``). ``folder`` is where the policy stands: other files that
    it names must lie below it unless ``allow_path``. ``allow_code`` lets the backend `code_tests` run what a model
    wrote, ``allow_plugins`` lets `python` import what the policy names, ``judge`` is where a judge is served. ``base``
    is the start model, which scores ``a@base`` where ``a`` has the backend `logprob`. Models that score are put on
    ``device``, on a GPU if there is one when None.
    Raises: ConfigError for an attribute without a backend, or an option that names no attribute of the policy.
    """
    ready, files = ready or {}, files or {}
    own = [attribute.name for attribute in policy.attributes]
    on_base = names_on_base(policy)
    require_used([*options, *ready], [*own, *on_base])
    for name, scorer in ready.items():
        if not callable(scorer):
            raise ConfigError(
                f"`{name}` is {str(scorer)[:60]!r}, expected a function or a text",
                parameter="scorers",
                help='pass what gives one number per completion, or what --scorer takes, such as "FOLDER#LABEL"',
            )
    wanted = [
        *policy.attributes,
        *(replace(policy.attribute(key.removesuffix("@base")), name=key, backend=None) for key in on_base),
    ]
    return {
        attribute.name: ready.get(attribute.name)
        or _of_base(attribute.name, policy, options, base, device)
        or _build(
            attribute,
            options.get(attribute.name),
            Place(
                folder,
                files.get(attribute.name),
                allow_path,
                allow_code,
                allow_plugins,
                judge or JudgeSettings(),
                device,
            ),
        )
        for attribute in wanted
    }


def names_on_base(policy: PolicyIR) -> list[str]:
    """The attributes that are read on the base model, ``a@base``."""
    own = {attribute.name for attribute in policy.attributes}
    needed = attributes_needed(policy.clauses)
    return [key for key in needed if key.endswith("@base") and key.removesuffix("@base") in own]


def require_options(policy: PolicyIR, options: Sequence[str]) -> None:
    """Raise, before anything is loaded, what ``bind_scorers`` would for scorer options: form, names, paths."""
    bound = parse_scorer_options(options)
    require_used(bound, [*(attribute.name for attribute in policy.attributes), *names_on_base(policy)])
    for name, (path, _) in bound.items():
        if not _is_word_list(path):
            require_folder(path, "sequence classifier", f"scorer {name}")
        elif not Path(path).exists():
            raise ConfigError(f"scorer {name}: no file `{path}`", help=looked(Path(path)))


def require_used(given: Iterable[str], names: Sequence[str]) -> None:
    """Raise ConfigError for a scorer of an attribute that the policy does not use."""
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            raise ConfigError(
                f"the policy uses no attribute `{name}`; it uses {', '.join(names) or 'none'}",
                help=f"a similar name exists: `{close[0]}`" if close else "leave it out",
                parameter="scorer",
            )


def needs_text_alone(policy: PolicyIR, options: Mapping[str, tuple[str, str | None]]) -> frozenset[str]:
    """The attributes whose scores follow from the text alone, on the CPU: other processes can find them as well."""
    return frozenset(
        attribute.name
        for attribute in policy.attributes
        if (_is_word_list(options[attribute.name][0]) if attribute.name in options
            else attribute.backend is not None and attribute.backend.kind in TEXT_BACKENDS)
    )  # fmt: skip


def _is_word_list(path: str) -> bool:
    return Path(path).suffix in {".txt", ".tsv", ".lexicon"}


def _of_base(
    name: str,
    policy: PolicyIR,
    options: Mapping[str, tuple[str, str | None]],
    base: str | None,
    device: str | None,
) -> Scorer | None:
    """The scorer of ``a@base`` under the start model, where the backend of ``a`` depends on a model; else None."""
    if not name.endswith("@base") or name in options:
        return None
    own = policy.attribute(name.removesuffix("@base"))
    if own.backend is None or own.backend.kind not in MODEL_BACKENDS:
        return None
    if base is None:
        raise ConfigError(
            f"`{name}` is the log-probability under the start model, and none is named",
            help=f"add --base DIR_OR_ID where the command has it, or pass a callable in Python for `{name}`",
        )
    return of_start_model(base, name, device)


def bind_audit(
    policy: PolicyIR, options: Sequence[str], *, folder: Path, allow_path: bool = False
) -> dict[str, Scorer]:
    """A second scorer for each attribute named in ``NAME=PATH[#LABEL]``.

    Raises: ConfigError for another form, or an attribute that the policy does not use.
    """
    with _speaking_of("audit"):
        bound = parse_scorer_options(options)
        require_used(bound, [attribute.name for attribute in policy.attributes])
        place = Place(folder, None, allow_path)
        return {name: _build(policy.attribute(name), option, place) for name, option in bound.items()}


def bind_given(
    policy: PolicyIR, scorers: Mapping[str, Scorer | str], *, folder: Path, **place: Any
) -> dict[str, Scorer]:
    """``bind_scorers`` for a caller of Python, whose ``scorers`` are callables, or texts such as ``--scorer`` takes.

    Raises: ConfigError, about ``scorers``.
    """
    named = [f"{name}={target}" for name, target in scorers.items() if isinstance(target, str)]
    ready = {name: scorer for name, scorer in scorers.items() if not isinstance(scorer, str)}
    with _speaking_of("scorers"):
        return bind_scorers(policy, parse_scorer_options(named), ready, folder=folder, **place)


@contextmanager
def _speaking_of(parameter: str) -> Iterator[None]:
    """Errors of ``scorer`` as those of the parameter by which the caller named it."""
    try:
        yield
    except ConfigError as error:
        if error.parameter != "scorer":
            raise
        raise error.of(parameter) from error


def _build(
    attribute: AttributeRecord,
    option: tuple[str, str | None] | None,
    place: Place,
) -> Scorer:
    """The scorer of one attribute, from its option or its backend."""
    backend = attribute.backend
    if option is not None:
        path, label = option
        if _is_word_list(path):
            if label is not None:
                raise ConfigError(
                    f"scorer {attribute.name}: `{path}` is a word list, and has no label `{label}`",
                    help=f"write {attribute.name}={path}",
                )
            return lexicon_scorer(attribute, Path(path))
        if attribute.type == "flag":
            raise ConfigError(
                f"`{attribute.name}` is a flag, true or false, and `{path}` gives a probability",
                help=f"declare `attribute {attribute.name}: score in [0, 1]` and write `{attribute.name} > 0.5`",
                parameter="scorer",
            )
        return ClassifierScorer(path, label=label, attribute=attribute.name, device=place.device)
    if backend is None:
        help = (
            f"add --scorer {attribute.name}=PATH[#LABEL] (in Python scorers={{'{attribute.name}': ...}}), or give the "
            "attribute a backend in the policy"
        )
        if attribute.name.endswith("@base"):
            help = f"pass a callable in Python that scores under the base model: scorers={{'{attribute.name}': ...}}"
        raise ConfigError(f"no scorer for the attribute `{attribute.name}`", help=help)
    builder = builder_of(backend.kind)
    if builder is None:
        raise ConfigError(
            f"attribute `{attribute.name}`: the backend `{backend.kind}` is not run by this release",
            help=f"bind it with --scorer {attribute.name}=PATH, or pass a callable in Python (scorers={{...}})",
        )
    return builder(attribute, backend, place)


def word_list_reader(
    attributes: Iterable[AttributeRecord],
    folder: Path,
    files: Mapping[str, Path] | None = None,
    allow_path: bool = False,
) -> Callable[[str], dict[str, float]]:
    """What opens the word lists that a policy names; ``files`` are those that the compiler found, by attribute."""
    found = files or {}
    known = {
        attribute.backend.arguments[0]: found[attribute.name]
        for attribute in attributes
        if attribute.backend is not None and attribute.name in found
    }
    return lambda name: read_lexicon(known.get(name) or policy_file(name, folder, allow_path))


def describe(scorers: Mapping[str, Any]) -> dict[str, str]:
    """Class names of the scorers, for the provenance of a run."""
    return {name: type(scorer).__name__ for name, scorer in scorers.items()}
