"""What a file declares: attributes, constants, domains, tags, groups, labels; each checked on its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from itertools import count
from typing import Protocol

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.checked import AttributeInfo
from constraintlang.constants import LetValues, exact_decimal, fold
from constraintlang.diagnostics import Label
from constraintlang.fixes import Edit, Fix, inserting, removing, replacing
from constraintlang.known_values import KNOWN, check_known
from constraintlang.literals import as_pattern
from constraintlang.printer import plain_text
from constraintlang.report import Report
from constraintlang.source import SourceFile, Span
from constraintlang.wording import KEYWORDS


@dataclass
class Declarations:
    """The names of a file; ``quiet`` are those that failed and must not be complained about again.

    What imports brought is among them, under qualified names; ``imports`` are the aliases and their files.
    ``source`` is the file itself where it is an imported one.
    """

    attributes: dict[str, AttributeInfo] = field(default_factory=dict)
    lets: dict[str, n.Let] = field(default_factory=dict)
    domains: dict[str, n.Domain] = field(default_factory=dict)
    tags: dict[str, n.Tag] = field(default_factory=dict)
    tag_values: dict[str, dict[str, None]] = field(default_factory=dict)
    tag_keys: set[str] = field(default_factory=set)
    labels: dict[str, n.Statement] = field(default_factory=dict)
    tested: set[str] = field(default_factory=set)
    quiet: set[str] = field(default_factory=set)
    values: LetValues = field(default_factory=lambda: LetValues({}, Report()))
    edition: int = v.EDITIONS[-1]
    imports: dict[str, str] = field(default_factory=dict)
    constants: dict[str, Decimal] = field(default_factory=dict)
    source: SourceFile | None = None


class Importer(Protocol):
    """Finds what an import names (``imports.py``)."""

    def declarations_of(self, item: n.Import, report: Report) -> Declarations | None:
        """What the file declares; None when it cannot be read, which is reported."""
        ...


def collect(
    policy: n.Policy,
    report: Report,
    *,
    prelude: Declarations | None = None,
    lost_names: frozenset[str] = frozenset(),
    importer: Importer | None = None,
) -> Declarations:
    """The declarations of a policy, what is wrong with them left in ``report``."""
    found = Declarations(quiet=set(lost_names))
    if prelude is not None:
        found.attributes.update(prelude.attributes)
    collector = _Collector(found, report, prelude, importer)
    for item, in_group in walk(policy.items):
        collector.item(item, in_group)
    _check_edition(policy, report, found)
    found.values = LetValues(found.lets, report, found.quiet, found.constants)
    found.quiet |= found.values.failed
    for item, _ in walk(policy.items):
        if isinstance(item, n.Attribute) and collector.accepted.get(item.name) is item:
            info = attribute_info(item, report, found.values.fractions, from_prelude=False)
            if info is None:
                found.attributes.pop(item.name, None)
                found.quiet.add(item.name)
            else:
                found.attributes[item.name] = info
    return found


def walk(items: Iterable[n.Item], in_group: bool = False) -> Iterator[tuple[n.Item, bool]]:
    """Every item of a file, those in groups after their group; groups nest at most 200 deep."""
    stack = [(item, in_group) for item in reversed(list(items))]
    while stack:
        item, inside = stack.pop()
        yield item, inside
        if isinstance(item, n.Group):
            stack.extend((inner, True) for inner in reversed(item.items))


class _Collector:
    def __init__(
        self,
        found: Declarations,
        report: Report,
        prelude: Declarations | None,
        importer: Importer | None,
    ) -> None:
        self.found = found
        self.report = report
        self.prelude = prelude
        self.importer = importer
        self.seen: dict[tuple[str, str], Span] = {}
        self.accepted: dict[str, n.Attribute] = {}
        self.numbers: dict[str, int] = {}

    def item(self, item: n.Item, in_group: bool) -> None:
        if in_group and not isinstance(item, n.Statement | n.Group | n.Test):
            word = type(item).__name__.lower()
            message = f"`{word}` cannot stand inside a group"
            self.report.error(
                "PC110", item.span, message, "move the declaration to the top level of the file"
            )
        if isinstance(item, n.Statement) and item.label is not None:
            if self.is_new("label", item.label, item.label_span or item.span, "PC109"):
                self.found.labels[item.label] = item
        elif isinstance(item, n.Test):
            self.found.tested.update(e.on for e in item.items if isinstance(e, n.Expect) and e.on)
        elif isinstance(item, n.Let):
            if self.may_name(item.name, item.name_span or item.span):
                self.found.lets[item.name] = item
                self.found.attributes.pop(item.name, None)
        elif isinstance(item, n.Attribute):
            if self.may_name(item.name, item.name_span or item.span):
                self.accepted[item.name] = item
        elif isinstance(item, n.Domain):
            if self.is_new("domain", item.name, item.name_span or item.span):
                self.found.domains[item.name] = item
                self.domain_fields(item)
        elif isinstance(item, n.Tag):
            if self.is_new("tag", item.key, item.name_span or item.span):
                self.declare_tag(item.key, item)
                self.found.tag_keys.add(item.key)
        elif isinstance(item, n.Group) and item.name:
            self.is_new("group", item.name, item.name_span or item.span)
        elif isinstance(item, n.Import):
            self.imported(item)

    def is_new(self, kind: str, name: str, span: Span, code: str = "PC111") -> bool:
        first = self.seen.setdefault((kind, name), span)
        if first is span:
            return True
        fix = None
        if kind == "label":
            fix = replacing(span, self.free_label(name))
        self.report.error(
            code,
            span,
            f"the {kind} `{name}` is already in use",
            "give one of the two another name",
            labels=(Label(first, "first used here"),),
            fix=fix,
        )
        return False

    def free_label(self, name: str) -> str:
        """The name with a number that no label has so far; a search goes on where the last one ended."""
        numbers = count(self.numbers.get(name, 2))
        number = next(i for i in numbers if ("label", f"{name}_{i}") not in self.seen)
        self.numbers[name] = number
        return f"{name}_{number}"

    def may_name(self, name: str, span: Span) -> bool:
        if name in v.RESERVED_NAMES:
            message = f"`{name}` has a meaning of its own in the language and cannot be declared"
            self.report.error("PC112", span, message, f"choose another name, for example `my_{name}`")
            self.found.quiet.add(name)
            return False
        if not self.is_new("name", name, span):
            return False
        if self.prelude is not None and name in self.prelude.attributes:
            self.report.note(
                "PC108",
                span,
                f"`{name}` is declared here in the place of the attribute that every policy knows",
            )
        return True

    def imported(self, item: n.Import) -> None:
        alias = item.alias or item.path.rsplit("/", 1)[-1].removesuffix(".policy")
        if not alias.isascii() or not alias.isidentifier() or alias.upper() in KEYWORDS:
            message = f"`{alias}` cannot qualify names"
            self.report.error("PC112", item.span, message, "name the import, for example `as safety`")
            return
        if not self.is_new("name", alias, item.span):
            return
        file = None if self.importer is None else self.importer.declarations_of(item, self.report)
        if file is None:
            self.found.quiet.add(alias)
            return
        self.found.imports[alias] = item.path
        for name in [*file.attributes, *file.values.decimals]:
            if "." not in name and not (name in file.attributes and file.attributes[name].from_prelude):
                self.bring(f"{alias}.{name}", name, item.span, file)
        self.found.quiet |= {f"{alias}.{name}" for name in file.quiet}
        for name, domain in file.domains.items():
            self.found.domains.setdefault(name, domain)
        self.found.tag_keys |= file.tag_keys
        for key, tag in file.tags.items():
            self.declare_tag(key, n.Tag(key=key, values=tag.values))  # its place is in another file

    def bring(self, qualified: str, name: str, span: Span, file: Declarations) -> None:
        if not self.is_new("name", qualified, span):
            return
        if name in file.attributes:
            info = replace(file.attributes[name], name=qualified, source=file.source)
            self.found.attributes[qualified] = info
        else:
            self.found.constants[qualified] = file.values.decimals[name]

    def declare_tag(self, key: str, tag: n.Tag) -> None:
        """Values of one tag from several files are one list: they are names in the user's data."""
        known, values = self.found.tags.get(key), self.found.tag_values.setdefault(key, {})
        if known is not None:
            new = tuple(s for s in tag.values if plain_text(s) not in values)
            tag = n.Tag(key=key, values=(*known.values, *new))
        self.found.tags[key] = tag
        values.update(dict.fromkeys(plain_text(s) for s in tag.values))

    def domain_fields(self, item: n.Domain) -> None:
        for entry in item.fields:
            if entry.name not in v.DOMAIN_FIELDS:
                self.report.unknown_word(_head(entry), "field of a domain", entry.name, v.DOMAIN_FIELDS)
            elif entry.name == "tags":
                if isinstance(entry.value, n.SetValue):
                    self.found.tag_keys.update(plain_text(s) for s in entry.value.values)
                else:
                    self.report.error(
                        "PC117", entry.span, "`tags` takes a set", "write `tags = {lang, topic}`"
                    )


def _check_edition(policy: n.Policy, report: Report, found: Declarations) -> None:
    editions = [(i, item) for i, item in enumerate(policy.items) if isinstance(item, n.Edition)]
    for position, (index, item) in enumerate(editions):
        if item.number not in v.EDITIONS:
            known = " or ".join(f"`edition {e}`" for e in v.EDITIONS)
            report.error("PC113", item.span, f"there is no edition {item.number}", f"write {known}")
        elif position == 0 and index != 0:
            line = Edit(report.source.whole_line(item.span), "")
            fix = Fix((Edit(Span(0, 0), f"edition {item.number}\n"), line), "safe")
            message = "`edition` must be the first item of the file"
            report.error("PC110", item.span, message, "move it to the top", fix=fix)
        elif position > 0:
            same = item.number == editions[0][1].number
            fix = removing(report.source.whole_line(item.span), "safe" if same else "unsafe")
            report.error("PC111", item.span, "the edition is already given", "remove this line", fix=fix)
    statements = [item for item, _ in walk(policy.items) if isinstance(item, n.Statement)]
    if not editions and len(statements) > 1:
        report.warning(
            "PC104",
            Span(policy.items[0].span.start, policy.items[0].span.start),
            "the file does not say which edition of the language it is written in",
            f"write `edition {v.EDITIONS[-1]}` as its first line",
            fix=inserting(0, f"edition {v.EDITIONS[-1]}\n", "safe"),
        )


# ---------------------------------------------------------------- attributes
def attribute_info(
    item: n.Attribute, report: Report, values: dict[str, Fraction], *, from_prelude: bool
) -> AttributeInfo | None:
    """A declaration checked and evaluated, or None when it is wrong."""
    errors_before = report.num_errors
    if item.type not in v.TYPES:
        report.unknown_word(item.type_span or item.span, "type of attributes", item.type, v.TYPES)
    direction = _direction(item, report)
    low, high = _range(item, report, values)
    backend = None
    levels: tuple[str, ...] | None = None
    seen: set[str] = set()
    for entry in item.fields:
        if entry.name in seen:
            report.error("PC111", entry.span, f"`{entry.name}` is already set", "remove one of the two")
        elif entry.name == "backend":
            backend = check_backend(entry, item.type, report)
        elif entry.name == "levels":
            levels = _levels(entry, report)
        else:
            report.unknown_word(_head(entry), "field of an attribute", entry.name, v.ATTRIBUTE_FIELDS)
        seen.add(entry.name)
    if report.num_errors > errors_before:
        return None
    return AttributeInfo(
        name=item.name,
        type=item.type,  # type: ignore[arg-type]  # checked above
        low=low,
        high=high,
        direction=direction,  # type: ignore[arg-type]
        backend=backend,
        from_prelude=from_prelude,
        span=None if from_prelude else item.span,
        levels=levels or _default_levels(backend),
    )


def _direction(item: n.Attribute, report: Report) -> str | None:
    found: list[str] = []
    for index, flag in enumerate(item.flags):
        span = item.flag_spans[index] if index < len(item.flag_spans) else item.span
        if flag not in v.DIRECTIONS:
            report.unknown_word(span, "property of attributes", flag, v.DIRECTIONS)
        elif found:
            report.error("PC111", span, "the good direction is already given", "keep one of the two words")
        else:
            found.append(v.DIRECTIONS[flag])
    return found[0] if found else None


def _range(
    item: n.Attribute, report: Report, values: dict[str, Fraction]
) -> tuple[Decimal | None, Decimal | None]:
    if item.low is None or item.high is None:
        if item.type == "score":
            return Decimal(0), Decimal(1)
        return (Decimal(0), None) if item.type == "count" else (None, None)
    span = item.low.span.to(item.high.span)
    if item.type == "flag":
        report.error("PC118", span, "a flag is true or false and has no range", "remove the range")
        return None, None
    low, high = _end(item.low, report, values), _end(item.high, report, values)
    if low is not None and high is not None and low >= high:
        report.error("PC118", span, "the range is empty", "write the smaller number first")
    elif low is not None and high is not None and float(low) == float(high):
        message = "the two ends of the range are too close to be told apart"
        report.error("PC118", span, message, "let them differ in their first 15 digits")
    for end, value in ((item.low, low), (item.high, high)):
        if value is not None and item.type in ("int", "count") and value != value.to_integral_value():
            message = f"the ends of the range of `{item.type}` are whole numbers"
            report.error("PC118", end.span, message, "write a whole number")
    if item.type == "count" and low is not None and low < 0:
        report.error("PC118", item.low.span, "a count is never negative", "begin the range at 0 or above")
    if item.type == "score" and (low is None or high is None):
        report.error("PC118", span, "a score has a finite range", "use the type `real`, or write both ends")
    return low, high


def _end(node: n.Expr, report: Report, values: dict[str, Fraction]) -> Decimal | None:
    """One end of a range; None is infinity."""
    inner = node.operand if isinstance(node, n.Negate) else node
    if isinstance(inner, n.Name) and inner.parts == ("inf",) and inner.model is None:
        return None
    value = fold(node, values)
    decimal = None if value is None else exact_decimal(value)
    if decimal is None:
        help = "write a decimal number, the name of a constant, or `inf`"
        report.error("PC118", node.span, "the end of a range must be a constant", help)
    return decimal


def check_backend(entry: n.Field, type: str, report: Report) -> n.Call | None:
    """The call behind ``backend =``, or None when it is wrong."""
    call = entry.value
    if not isinstance(call, n.Call):
        message = "a backend is written like a call"
        help = "for example " + (
            f"`backend = {v.BACKENDS['classifier'].example}`"
            if type in v.CONTINUOUS
            else '`backend = regex(re"[0-9]{16}")`'
        )
        report.error("PC117", call.span, message, help)
        return None
    shape = v.BACKENDS.get(call.function)
    if shape is None:
        head = Span(call.span.start, call.span.start + len(call.function))
        report.unknown_word(head, "backend", call.function, v.BACKENDS)
        return None
    help = f"write it like `{shape.example}`"
    if len(call.arguments) != len(shape.arguments):
        wanted, got = len(shape.arguments), len(call.arguments)
        message = f"`{call.function}` takes {wanted} plain argument{'s' if wanted != 1 else ''}, not {got}"
        report.error("PC117", call.span, message, help)
    for argument, kind in zip(call.arguments, shape.arguments, strict=False):
        _check_argument(argument, kind, call.function, shape, report, help)
    seen: set[str] = set()
    for index, (name, argument) in enumerate(call.keywords):
        place = call.key_spans[index] if index < len(call.key_spans) else argument.span
        if name in seen:
            report.error("PC111", place, f"`{name}` is already set", "remove one of the two")
        elif name not in shape.keywords:
            report.unknown_word(
                place,
                f"setting of `{call.function}`",
                name,
                shape.keywords or ["(none)"],
                beside=place is argument.span,
            )
        else:
            _check_argument(argument, shape.keywords[name], call.function, shape, report, help)
        seen.add(name)
    if type in v.TYPES and type not in shape.types:
        kinds = ", ".join(f"`{t}`" for t in shape.types)
        report.error(
            "PC117",
            call.span,
            f"`{call.function}` cannot measure a `{type}`",
            f"declare the attribute as {kinds}",
        )
    return call


def _check_argument(
    argument: n.Scalar, kind: str, function: str, shape: v.Backend, report: Report, help: str
) -> None:
    fits = argument.kind == kind or (
        kind == "choice" and argument.kind == "name" and argument.value in shape.choices
    )
    if not fits:
        message = f"`{function}` takes {v.argument_words(kind, shape)} here"
        fix = None
        if kind == "regex" and argument.kind == "string":
            fix = replacing(argument.span, f're"{as_pattern(report.source.extract(argument.span)[1:-1])}"')
        report.error("PC117", argument.span, message, help, fix=fix)
    elif function == "python" and kind == "string" and ":" not in str(argument.value):
        report.error("PC117", argument.span, "a python backend is named `module:function`", help)
    elif function in KNOWN:
        check_known(argument, function, report)


def _levels(entry: n.Field, report: Report) -> tuple[str, ...]:
    """The levels of an attribute, in the order of the vocabulary."""
    if not isinstance(entry.value, n.SetValue):
        report.error("PC117", entry.span, "`levels` takes a set", "write `levels = {sequence, sentences}`")
        return ()
    for scalar in entry.value.values:
        if scalar.value not in v.LEVELS:
            report.unknown_word(scalar.span, "level", str(scalar.value), v.LEVELS)
    return tuple(level for level in v.LEVELS if level in {scalar.value for scalar in entry.value.values})


def _default_levels(backend: n.Call | None) -> tuple[str, ...]:
    return v.LEVELS if backend is not None and backend.function in v.TEXT_MEASURES else (v.WHOLE,)


def _head(entry: n.Field) -> Span:
    return Span(entry.span.start, entry.span.start + len(entry.name))
