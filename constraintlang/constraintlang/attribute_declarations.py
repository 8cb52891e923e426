"""A declared attribute, checked and evaluated: its type, range, direction, levels and backend."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.checked import AttributeInfo
from constraintlang.constants import exact_decimal, fold
from constraintlang.fixes import replacing
from constraintlang.known_values import KNOWN, check_known
from constraintlang.literals import as_pattern
from constraintlang.report import Report
from constraintlang.source import Span


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
            report.unknown_word(field_head(entry), "field of an attribute", entry.name, v.ATTRIBUTE_FIELDS)
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


def field_head(entry: n.Field) -> Span:
    """Where the name of a field stands."""
    return Span(entry.span.start, entry.span.start + len(entry.name))
