"""Plain values to those of the Language Server Protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lsprotocol import types

from constraintc.lsp.actions import Action
from constraintc.lsp.coloring import KINDS, Coloured
from constraintc.lsp.completion import Completion, Completions
from constraintc.lsp.hints import Hint
from constraintc.lsp.outline import Symbol
from constraintc.lsp.positions import Positions
from constraintlang.diagnostics import Diagnostic
from constraintlang.fixes import Edit
from constraintlang.source import SourceFile, Span

SEVERITIES = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
    "note": types.DiagnosticSeverity.Hint,
}
_COMPLETION_KINDS = {
    "attribute": types.CompletionItemKind.Property,
    "constant": types.CompletionItemKind.Constant,
    "statistic": types.CompletionItemKind.Function,
    "keyword": types.CompletionItemKind.Keyword,
    "domain": types.CompletionItemKind.Module,
    "tag": types.CompletionItemKind.Field,
    "value": types.CompletionItemKind.EnumMember,
    "label": types.CompletionItemKind.Reference,
    "word": types.CompletionItemKind.Value,
}
_SYMBOL_KINDS = {
    "statement": types.SymbolKind.Function,
    "group": types.SymbolKind.Namespace,
    "test": types.SymbolKind.Event,
    "attribute": types.SymbolKind.Property,
    "constant": types.SymbolKind.Constant,
    "domain": types.SymbolKind.Module,
    "tag": types.SymbolKind.Enum,
    "other": types.SymbolKind.Key,
}
EMPTY: Mapping[str, Span] = MappingProxyType({})
LEGEND = types.SemanticTokensLegend(token_types=list(KINDS), token_modifiers=[])


def to_position(positions: Positions, offset: int) -> types.Position:
    """An offset as line and character."""
    line, character = positions.position(offset)
    return types.Position(line, character)


def to_range(positions: Positions, span: Span) -> types.Range:
    """A span as two positions."""
    return types.Range(to_position(positions, span.start), to_position(positions, span.end))


def to_offset(positions: Positions, position: types.Position) -> int:
    """A position of the editor as an offset."""
    return positions.offset(position.line, position.character)


def to_span(positions: Positions, place: types.Range) -> Span:
    """A range of the editor as a span."""
    start = to_offset(positions, place.start)
    return Span(start, max(start, to_offset(positions, place.end)))


def to_text_edits(positions: Positions, edits: Iterable[Edit]) -> list[types.TextEdit]:
    """Edits of one file."""
    return [types.TextEdit(to_range(positions, edit.span), edit.text) for edit in edits]


def to_workspace_edit(uri: str, positions: Positions, edits: Iterable[Edit]) -> types.WorkspaceEdit:
    """Edits of one file, with its name."""
    return types.WorkspaceEdit(changes={uri: to_text_edits(positions, edits)})


def to_diagnostic(
    uri: str, positions: Positions, found: Diagnostic, imported_at: Mapping[str, Span] = EMPTY
) -> types.Diagnostic:
    """A finding; its other places are listed, and an idle comment is shown faded.

    One in an imported file is shown at the import by which the file came: ``imported_at`` has them by name.
    """
    if found.source is not None:
        return _in_imported(positions, found, found.source, imported_at.get(found.source.name, Span(0, 0)))
    return types.Diagnostic(
        range=to_range(positions, found.span),
        message=found.text(),
        severity=SEVERITIES[found.severity],
        code=found.code,
        source="constraintc",
        tags=[types.DiagnosticTag.Unnecessary] if found.code == "PC410" else None,
        related_information=[
            types.DiagnosticRelatedInformation(
                types.Location(uri, to_range(positions, label.span)), label.text
            )
            for label in found.labels
        ],
    )


def _in_imported(
    positions: Positions, found: Diagnostic, source: SourceFile, shown_at: Span
) -> types.Diagnostic:
    name = Path(source.name).name
    places = to_locations(positions, source, found.span)
    related = [types.DiagnosticRelatedInformation(place, found.message) for place in places]
    return types.Diagnostic(
        range=to_range(positions, shown_at),
        message=f"in `{name}`, line {source.position(found.span.start)[0]}: {found.text()}",
        severity=SEVERITIES[found.severity],
        code=found.code,
        source="constraintc",
        related_information=related,
    )


def to_locations(positions: Positions, source: SourceFile, span: Span) -> list[types.Location]:
    """A place in another file, counted as ``positions`` counts; none for a text that is no file."""
    if source.folder is None:
        return []
    uri = (source.folder / Path(source.name).name).absolute().as_uri()
    return [types.Location(uri, to_range(Positions(source.text, positions.encoding), span))]


def to_code_action(uri: str, positions: Positions, action: Action) -> types.CodeAction:
    """An action as a quick fix of its finding."""
    return types.CodeAction(
        title=action.title,
        kind=types.CodeActionKind.QuickFix,
        diagnostics=[to_diagnostic(uri, positions, action.diagnostic)],
        is_preferred=action.preferred,
        edit=to_workspace_edit(uri, positions, action.edits),
    )


def to_completion_list(
    positions: Positions, found: Completions, *, with_snippets: bool
) -> types.CompletionList:
    """The words to offer, in the order given."""
    place = to_range(positions, found.replaced)
    items = [
        _to_item(completion, place, number, with_snippets) for number, completion in enumerate(found.items)
    ]
    return types.CompletionList(is_incomplete=False, items=items)


def _to_item(found: Completion, place: types.Range, number: int, with_snippets: bool) -> types.CompletionItem:
    inserts = found.snippet if with_snippets and found.snippet is not None else None
    return types.CompletionItem(
        label=found.label,
        kind=_COMPLETION_KINDS[found.kind],
        detail=found.detail or None,
        documentation=found.documentation or None,
        sort_text=f"{number:04}",
        insert_text_format=types.InsertTextFormat.Snippet if inserts else types.InsertTextFormat.PlainText,
        text_edit=types.TextEdit(place, inserts or found.label),
    )


def to_document_symbols(positions: Positions, symbols: Sequence[Symbol]) -> list[types.DocumentSymbol]:
    """The outline of a file."""
    return [
        types.DocumentSymbol(
            name=symbol.name,
            kind=_SYMBOL_KINDS[symbol.kind],
            range=to_range(positions, symbol.span),
            selection_range=to_range(positions, symbol.name_span),
            detail=symbol.detail or None,
            children=to_document_symbols(positions, symbol.children),
        )
        for symbol in symbols
    ]


def to_inlay_hint(positions: Positions, hint: Hint) -> types.InlayHint:
    """A hint, with space before it."""
    return types.InlayHint(to_position(positions, hint.offset), hint.text, padding_left=True)


def to_semantic_tokens(positions: Positions, parts: Iterable[Coloured]) -> types.SemanticTokens:
    """Coloured parts as five numbers each, lines and columns counted from the part before."""
    data: list[int] = []
    last_line = last_column = 0
    for part in parts:
        line, column = positions.position(part.span.start)
        _, end = positions.position(part.span.end)
        data += [
            line - last_line,
            column - last_column if line == last_line else column,
            end - column,
            KINDS.index(part.kind),
            0,
        ]
        last_line, last_column = line, column
    return types.SemanticTokens(data=data)


def to_markdown(text: str) -> types.MarkupContent:
    """A text that is Markdown."""
    return types.MarkupContent(types.MarkupKind.Markdown, text)


def wants_snippets(capabilities: Any) -> bool:
    """Whether an editor understands `$1` in what it inserts."""
    completion = capabilities.text_document and capabilities.text_document.completion
    item = completion and completion.completion_item
    return bool(item and item.snippet_support)
