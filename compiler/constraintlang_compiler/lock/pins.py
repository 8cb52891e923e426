"""The parts that a policy trusts outside its text, each with what pins it here and now, or why nothing does."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from constraintlang import check_source
from constraintlang import nodes as n
from constraintlang.checked import AttributeInfo
from constraintlang.source import SourceFile, Span
from constraintlang.tree import names_in
from constraintlang.vocabulary import BACKENDS
from constraintlang_compiler.lock.content import content_hash
from constraintlang_compiler.lock.plugins import find_plugin
from constraintlang_policies.library import PREFIX, std_path

COMMIT = re.compile(r"[0-9a-f]{7,40}")
BUILT_IN = "built in"
SCORER_OPTION = "scorer option"


@dataclass(frozen=True)
class Part:
    """One trusted part; ``pin`` is None when nothing pins it, and ``problem`` and ``help`` then say why.

    ``name`` is unique in a policy: ``attribute toxicity``, ``domain support``.
    """

    name: str
    kind: str
    source: str
    pin: str | None
    span: Span
    problem: str = ""
    help: str = ""


@dataclass(frozen=True)
class Place:
    """Where the files of a policy are looked for, and which scorers the command line binds."""

    folder: Path
    options: Mapping[str, tuple[str, str | None]]
    allow_path: bool = False


def parts_of(source: SourceFile, place: Place) -> list[Part]:
    """The trusted parts of a policy: the scorer of every attribute that it uses, the data of every domain, and
    the policies that it imports.

    Raises: PolicyError when the policy has errors.
    """
    checked = check_source(source, allow_path=place.allow_path)
    policy = checked.require()
    first_use: dict[str, Span] = {}
    for statement in policy.statements:
        for name in names_in(statement.formula):
            first_use.setdefault(".".join(name.parts), name.span)
    parts = [
        _scorer(info, (None if info.source else info.span) or first_use.get(name, n.NO_SPAN), place)
        for name, info in policy.attributes.items()
    ]
    parts += [_import(key, text, place) for key, text in sorted(checked.imported.items())]
    parts += [
        part for item in checked.tree.items if isinstance(item, n.Domain) for part in _data(item, place)
    ]
    return parts


def _import(key: str, text: str, place: Place) -> Part:
    folder, path = place.folder.resolve(), Path(key)
    shown = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else key
    pin = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return Part(f"import {shown}", "policy", shown, pin, n.NO_SPAN)


# ---------------------------------------------------------------- scorers
def _scorer(info: AttributeInfo, span: Span, place: Place) -> Part:
    name = f"attribute {info.name}"
    option = place.options.get(info.name)
    if option is not None:
        path, label = option
        shown = path if label is None else f"{path}#{label}"
        return _model_or_file(name, SCORER_OPTION, path, shown, Path(path), None, span)
    if info.backend is None:
        return Part(
            name, "scorer", "", None, span, f"`{info.name}` has no backend: the command line binds its scorer",
            f"give the scorer here too, with `--scorer {info.name}=PATH`, or write a backend",
        )  # fmt: skip
    backend = info.backend
    reads = BACKENDS[backend.function].reads
    written = str(backend.arguments[0].value) if backend.arguments else ""
    if reads == "nothing":
        return Part(name, backend.function, written, BUILT_IN, span)
    if reads == "file":
        if written.startswith(PREFIX):
            return _standard_list(name, written, span)
        return _file(name, backend.function, written, _declared(info, place), span)
    if reads == "model":
        keywords = {key: str(value.value) for key, value in backend.keywords}
        label = keywords.get("label")
        shown = written if label is None else f"{written}#{label}"
        place = _declared(info, place)
        local = place.folder / written
        if os.path.exists(local) and (
            outside := _outside(name, backend.function, written, local, place, span)
        ):
            return outside
        return _model_or_file(name, backend.function, written, shown, local, keywords.get("revision"), span)
    found = find_plugin(written)
    if found is None:
        return Part(
            name, "plug-in", written, None, span, f"the plug-in `{written}` is not installed here",
            "install the distribution that holds it",
        )  # fmt: skip
    return Part(name, "plug-in", written, found.pin, span)


def _standard_list(name: str, written: str, span: Span) -> Part:
    try:
        path = std_path(written)
    except ValueError:
        problem = f"cannot read `{written}`: the standard library has no such list"
        return Part(name, "lexicon", written, None, span, problem, "check the path")
    return _hashed(name, "lexicon", written, path, span)


def _declared(info: AttributeInfo, place: Place) -> Place:
    """Where the files of an attribute are looked for: from the imported file that declares it."""
    folder = None if info.source is None else info.source.folder
    return place if folder is None else replace(place, folder=folder)


def _model_or_file(
    name: str, kind: str, written: str, shown: str, local: Path, revision: str | None, span: Span
) -> Part:
    """A model in a folder is pinned by its content, one of the hub by its commit."""
    if os.path.exists(local):  # false, too, of a name that no file can have
        return _hashed(name, kind, shown, local, span)
    if revision is None and "@" in written:
        written, _, revision = written.partition("@")
    if revision is not None and COMMIT.fullmatch(revision):
        return Part(name, kind, shown, f"revision {revision}", span)
    if kind == SCORER_OPTION:
        return Part(
            name, kind, shown, None, span, f"the scorer `{written}` is no folder here, so its content may change",
            "download the model and name its folder, or write the commit behind its name: OWNER/NAME@COMMIT",
        )  # fmt: skip
    what = (
        f"`{written}` follows `{revision}`, which may move" if revision else f"`{written}` names no revision"
    )
    cached = cached_commit(written, revision or "main")
    commit = (
        f'`revision="{cached}"`, the commit in the cache of this machine'
        if cached
        else "a commit hash as `revision`"
    )
    return Part(name, kind, shown, None, span, what, f"write {commit}")


def cached_commit(model: str, revision: str) -> str | None:
    """The commit that a name of a revision means in the local cache of the hub; None when it is not there."""
    root = os.environ.get("HF_HUB_CACHE")
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    folder = Path(root) if root else home / "hub"
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) or not re.fullmatch(r"[\w.-]+", revision):
        return None
    try:
        commit = (folder / f"models--{model.replace('/', '--')}" / "refs" / revision).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return commit if COMMIT.fullmatch(commit) else None


# ---------------------------------------------------------------- files
def _data(item: n.Domain, place: Place) -> Iterator[Part]:
    for field in item.fields:
        if field.name != "source" or not isinstance(field.value, n.Call) or not field.value.arguments:
            continue
        written = str(field.value.arguments[0].value)
        name = f"domain {item.name}"
        if field.value.function == "dataset":
            keywords = {key: str(value.value) for key, value in field.value.keywords}
            revision = keywords.get("revision", "")
            if COMMIT.fullmatch(revision):
                yield Part(name, "data set", written, f"revision {revision}", field.span)
            else:
                yield Part(
                    name, "data set", written, None, field.span, f"the data set `{written}` names no revision",
                    "write a commit hash as `revision`",
                )  # fmt: skip
        else:
            yield _file(name, "data", written, place, field.span)


def _file(name: str, kind: str, written: str, place: Place, span: Span) -> Part:
    path = place.folder / written
    return _outside(name, kind, written, path, place, span) or _hashed(name, kind, written, path, span)


def _outside(name: str, kind: str, written: str, path: Path, place: Place, span: Span) -> Part | None:
    """The part that says that a file does not lie below the policy: nothing else of it is looked at."""
    try:
        if place.allow_path or path.resolve().is_relative_to(place.folder.resolve()):
            return None
    except (OSError, ValueError, RuntimeError):  # no name of a file, or a link to itself: reading it says so
        return None
    return Part(
        name, kind, written, None, span, f"`{written}` lies outside the folder of the policy",
        "move it below the policy, or pass --allow-path if you trust the policy",
    )  # fmt: skip


def _hashed(name: str, kind: str, shown: str, path: Path, span: Span) -> Part:
    try:
        return Part(name, kind, shown, content_hash(path), span)
    except (OSError, ValueError, RuntimeError) as error:
        reason = ((isinstance(error, OSError) and error.strerror) or str(error)).lower()
        return Part(name, kind, shown, None, span, f"cannot read `{shown}`: {reason}", "check the path")
