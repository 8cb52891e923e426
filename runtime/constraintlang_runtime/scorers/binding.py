"""From a policy's attributes and the user's ``--scorer`` options to ready scorers."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from constraintlang_compiler.attributes import attributes_needed
from constraintlang_compiler.data_files import data_path
from constraintlang_compiler.ir import AttributeRecord, Backend, PolicyIR
from constraintlang_policies.library import PREFIX
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.classifier import ClassifierScorer
from constraintlang_runtime.scorers.length import LengthScorer
from constraintlang_runtime.scorers.lexicon import LexiconScorer, read_lexicon
from constraintlang_runtime.scorers.protocol import Scorer
from constraintlang_runtime.scorers.regex import RegexScorer


def parse_scorer_options(options: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    """``["toxicity=PATH#LABEL"]`` -> {"toxicity": (PATH, LABEL)}; ConfigError for another form or a repetition."""
    bound: dict[str, tuple[str, str | None]] = {}
    for option in options:
        name, equals, target = option.partition("=")
        if not equals or not name or not target:
            raise ConfigError(f"--scorer: got {option!r}, expected NAME=PATH or NAME=PATH#LABEL")
        if name in bound:
            raise ConfigError(f"--scorer: `{name}` is given twice", help="keep one of them")
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
) -> dict[str, Scorer]:
    """One scorer per attribute of the policy, and one per attribute that is read on the base model, ``a@base``.

    A ready callable wins over an option, an option over the backend written in the policy. ``files`` are the word
    lists that the compiler found (``CompiledPolicy.files``). ``folder`` is where the policy stands: other files that
    it names must lie below it unless ``allow_path``.
    Raises: ConfigError for an attribute without a backend, or an option that names no attribute of the policy.
    """
    ready, files = ready or {}, files or {}
    own = [attribute.name for attribute in policy.attributes]
    needed = attributes_needed(policy.clauses)
    on_base = [key for key in needed if key.endswith("@base") and key.removesuffix("@base") in own]
    names = [*own, *on_base]
    for name in [*options, *ready]:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            raise ConfigError(
                f"--scorer: the policy uses no attribute `{name}`; it uses {', '.join(names) or 'none'}",
                help=f"a similar name exists: `{close[0]}`" if close else "drop the option",
            )
    wanted = [
        *policy.attributes,
        *(replace(policy.attribute(key.removesuffix("@base")), name=key, backend=None) for key in on_base),
    ]
    return {
        attribute.name: ready.get(attribute.name)
        or _build(attribute, options.get(attribute.name), files.get(attribute.name), folder, allow_path)
        for attribute in wanted
    }


def bind_audit(
    policy: PolicyIR, options: Sequence[str], *, folder: Path, allow_path: bool = False
) -> dict[str, Scorer]:
    """A second scorer for each attribute named in ``NAME=PATH[#LABEL]``.

    Raises: ConfigError for another form, or an attribute that the policy does not use.
    """
    found: dict[str, Scorer] = {}
    try:
        for name, option in parse_scorer_options(options).items():
            if name not in [attribute.name for attribute in policy.attributes]:
                known = ", ".join(attribute.name for attribute in policy.attributes)
                raise ConfigError(
                    f"--scorer: the policy uses no attribute `{name}`; it uses {known}",
                    help="drop the option",
                )
            found[name] = _build(policy.attribute(name), option, None, folder, allow_path)
    except ConfigError as error:
        if not error.message.startswith("--scorer"):
            raise
        raise ConfigError("--audit" + error.message.removeprefix("--scorer"), help=error.help) from error
    return found


def _build(
    attribute: AttributeRecord,
    option: tuple[str, str | None] | None,
    file: Path | None,
    folder: Path,
    allow_path: bool,
) -> Scorer:
    """The scorer of one attribute, from its option or its backend."""
    backend = attribute.backend
    if option is not None:
        path, label = option
        if Path(path).suffix in {".txt", ".tsv", ".lexicon"}:
            return _lexicon(attribute, Path(path))
        return ClassifierScorer(path, label=label, attribute=attribute.name)
    if backend is None:
        help = f"add --scorer {attribute.name}=PATH[#LABEL], or give the attribute a backend in the policy"
        if attribute.name.endswith("@base"):
            help = f"pass a callable in Python that scores under the base model: scorers={{'{attribute.name}': ...}}"
        raise ConfigError(f"no scorer for the attribute `{attribute.name}`", help=help)
    if backend.kind not in BUILDERS:
        raise ConfigError(
            f"attribute `{attribute.name}`: the backend `{backend.kind}` is not run by this release",
            help=f"bind it with --scorer {attribute.name}=PATH, or pass a callable in Python (scorers={{...}})",
        )
    return BUILDERS[backend.kind](attribute, backend, Place(folder, file, allow_path))


@dataclass(frozen=True)
class Place:
    """Where the files and models of a policy are looked for; ``file`` is what the compiler found for the attribute."""

    folder: Path
    file: Path | None
    allow_path: bool

    def named_file(self, name: str) -> Path:
        """The file that a backend names."""
        return self.file or policy_file(name, self.folder, self.allow_path)

    def model(self, name: str) -> str:
        """A model below the policy's folder, else an id of the hub."""
        local = self.folder / name
        return str(inside(local, self.folder, self.allow_path)) if local.exists() else name


Builder = Callable[[AttributeRecord, Backend, Place], Scorer]
BUILDERS: dict[str, Builder] = {
    "classifier": lambda attribute, backend, place: ClassifierScorer(
        place.model(backend.arguments[0]), label=backend.keywords.get("label"), attribute=attribute.name,
        revision=backend.keywords.get("revision"),
    ),
    "lexicon": lambda attribute, backend, place: _lexicon(attribute, place.named_file(backend.arguments[0])),
    "regex": lambda attribute, backend, place: RegexScorer(backend.arguments[0], flag=attribute.type == "flag"),
    "length": lambda attribute, backend, place: LengthScorer(backend.arguments[0]),
}  # fmt: skip


def _lexicon(attribute: AttributeRecord, path: Path) -> LexiconScorer:
    ceiling = float(attribute.high) if attribute.high is not None else math.inf
    return LexiconScorer(path, ceiling=ceiling, flag=attribute.type == "flag")


def policy_file(name: str, folder: Path, allow_path: bool) -> Path:
    """The file of a policy that was compiled from text, without a folder."""
    if not name.startswith(PREFIX):
        return inside(data_path(name, folder), folder, allow_path)
    try:
        return data_path(name, folder)
    except ValueError as error:
        raise ConfigError(
            f"lexicon: {error}", help="name a list of the standard library, or your own"
        ) from error


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


def inside(path: Path, folder: Path, allow_path: bool) -> Path:
    """The path, which must not leave the policy's folder unless allowed: a policy is untrusted."""
    resolved = path.resolve()
    if not allow_path and not resolved.is_relative_to(folder.resolve()):
        raise ConfigError(
            f"the policy names `{path}`, which lies outside its folder `{folder}`",
            help="move the file below the policy, or pass --allow-path if you trust the policy",
        )
    return resolved


def describe(scorers: Mapping[str, Any]) -> dict[str, str]:
    """Class names of the scorers, for the provenance of a run."""
    return {name: type(scorer).__name__ for name, scorer in scorers.items()}
