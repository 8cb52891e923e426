"""The language server: the protocol's requests, each answered by one function of this package.

The whole text comes with every change: a policy is small, and so the editor's text and ours cannot drift apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
from pathlib import Path

from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer

import constraintlang
from constraintc.lsp import convert
from constraintc.lsp.actions import actions
from constraintc.lsp.coloring import coloured
from constraintc.lsp.completion import complete
from constraintc.lsp.document import Document
from constraintc.lsp.formatting import formatted
from constraintc.lsp.hints import hints
from constraintc.lsp.hover import hover
from constraintc.lsp.outline import outline
from constraintc.lsp.positions import Positions
from constraintc.lsp.rename import Refused, imported_name, renamable, rename, same_name
from constraintc.lsp.testing import run_test, test_blocks
from constraintlang.source import Span

SETTLE_SECONDS = 0.01
"""Changes that come closer together are checked once."""
IDLE_SECONDS = 1.0
RUN_TEST = "constraintc.runTest"


class PolicyServer(LanguageServer):
    """The documents that are open, and the checks that are due."""

    def __init__(self) -> None:
        super().__init__(
            "constraintc",
            constraintlang.__version__,
            text_document_sync_kind=types.TextDocumentSyncKind.Full,
        )
        self.documents: dict[str, Document] = {}
        self.due: dict[str, asyncio.TimerHandle] = {}
        self.idle: asyncio.TimerHandle | None = None
        self.was_shut_down = False

    def document(self, uri: str) -> Document:
        """The document of an open file, with the text that the editor last sent."""
        opened = self.workspace.get_text_document(uri)
        known = self.documents.get(uri)
        if known is None:
            # A text that is not saved yet lies in no folder: it can import the standard library only.
            folder = Path(opened.path).parent if uri.startswith("file:") else None
            self.documents[uri] = Document(opened.source, opened.path, folder=folder)
        elif known.text != opened.source:
            self.documents[uri] = known.changed(opened.source)
        return self.documents[uri]

    def opened(self, uri: str) -> tuple[Document, Positions]:
        """The document of a file and its positions, counted as the editor counts."""
        document = self.document(uri)
        encoding = types.PositionEncodingKind(self.workspace.position_encoding or "utf-16").value
        return document, Positions(document.text, encoding)

    def check_soon(self, uri: str) -> None:
        """Send the findings of a file when its changes have settled."""
        if uri in self.due:
            self.due[uri].cancel()
        self.due[uri] = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self.check, uri)

    def check(self, uri: str) -> None:
        """Send the findings of a file."""
        self.due.pop(uri, None)
        document, positions = self.opened(uri)
        version = self.workspace.get_text_document(uri).version
        places = document.result.imported_at
        found = [convert.to_diagnostic(uri, positions, d, places) for d in document.diagnostics]
        self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, found, version))
        if self.idle is not None:
            self.idle.cancel()
        self.idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, gc.collect)

    def forget(self, uri: str) -> None:
        """A file is closed: nothing is said of it any more."""
        if uri in self.due:
            self.due.pop(uri).cancel()
        self.documents.pop(uri, None)
        self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))


def build_server() -> PolicyServer:
    """A server with every request that it answers."""
    server = PolicyServer()
    _synchronise(server)
    _tell(server)
    _change(server)
    return server


def serve() -> bool:
    """Answer on standard input and output until the editor leaves; whether it said so before, as it should."""
    logging.basicConfig(level=logging.WARNING)  # to standard error
    server = build_server()
    # Cyclic garbage is looked for when nobody waits, and not among what is loaded by now.
    gc.disable()
    gc.freeze()
    # Standard output belongs to the protocol: whatever is printed by mistake must not get between its messages.
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    with contextlib.redirect_stdout(sys.stderr):
        server.start_io(stdout=output)
    return server.was_shut_down


# ---------------------------------------------------------------- the text
def _synchronise(server: PolicyServer) -> None:
    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def did_open(params: types.DidOpenTextDocumentParams) -> None:
        server.check(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def did_change(params: types.DidChangeTextDocumentParams) -> None:
        server.check_soon(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def did_save(params: types.DidSaveTextDocumentParams) -> None:
        # What was saved may be imported by the other open files.
        for uri, document in list(server.documents.items()):
            if uri != params.text_document.uri and document.result.imported_at:
                server.documents[uri] = document.changed(document.text)
                server.check_soon(uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def did_close(params: types.DidCloseTextDocumentParams) -> None:
        server.forget(params.text_document.uri)

    @server.feature(types.SHUTDOWN)
    def on_shutdown(params: None) -> None:
        server.was_shut_down = True


# ---------------------------------------------------------------- what there is to say
def _tell(server: PolicyServer) -> None:
    @server.feature(types.TEXT_DOCUMENT_HOVER)
    def on_hover(params: types.HoverParams) -> types.Hover | None:
        document, positions = server.opened(params.text_document.uri)
        found = hover(document, convert.to_offset(positions, params.position))
        if found is None:
            return None
        return types.Hover(convert.to_markdown(found.text), convert.to_range(positions, found.span))

    @server.feature(types.TEXT_DOCUMENT_INLAY_HINT)
    def on_hints(params: types.InlayHintParams) -> list[types.InlayHint]:
        document, positions = server.opened(params.text_document.uri)
        within = convert.to_span(positions, params.range)
        return [convert.to_inlay_hint(positions, hint) for hint in hints(document, within)]

    @server.feature(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def on_symbols(params: types.DocumentSymbolParams) -> list[types.DocumentSymbol]:
        document, positions = server.opened(params.text_document.uri)
        return convert.to_document_symbols(positions, outline(document))

    @server.feature(
        types.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL,
        types.SemanticTokensRegistrationOptions(legend=convert.LEGEND, full=True),
    )
    def on_colours(params: types.SemanticTokensParams) -> types.SemanticTokens:
        document, positions = server.opened(params.text_document.uri)
        return convert.to_semantic_tokens(positions, coloured(document))

    @server.feature(types.TEXT_DOCUMENT_DEFINITION)
    def on_definition(params: types.DefinitionParams) -> list[types.Location]:
        uri = params.text_document.uri
        document, positions = server.opened(uri)
        offset = convert.to_offset(positions, params.position)
        elsewhere = imported_name(document, offset)
        if elsewhere is not None:
            return convert.to_locations(positions, *elsewhere)
        found = same_name(document, offset)
        return [types.Location(uri, convert.to_range(positions, one.span)) for one in found if one.defines]

    @server.feature(types.TEXT_DOCUMENT_REFERENCES)
    def on_references(params: types.ReferenceParams) -> list[types.Location]:
        uri = params.text_document.uri
        document, positions = server.opened(uri)
        found = same_name(document, convert.to_offset(positions, params.position))
        with_declaration = params.context.include_declaration
        return [
            types.Location(uri, convert.to_range(positions, one.span))
            for one in found
            if with_declaration or not one.defines
        ]

    @server.feature(types.TEXT_DOCUMENT_CODE_LENS, types.CodeLensOptions(resolve_provider=False))
    def on_code_lens(params: types.CodeLensParams) -> list[types.CodeLens]:
        uri = params.text_document.uri
        document, positions = server.opened(uri)
        return [
            types.CodeLens(
                convert.to_range(positions, Span(test.span.start, test.span.start + len("test"))),
                types.Command("Run test", RUN_TEST, arguments=[uri, test.name]),
            )
            for test in test_blocks(document)
        ]

    @server.command(RUN_TEST)
    def on_run_test(uri: str, name: str) -> str:
        ran = run_test(server.document(uri), name)
        kind = types.MessageType.Info if ran.passed else types.MessageType.Warning
        server.window_show_message(types.ShowMessageParams(kind, ran.text))
        return ran.text

    @server.feature(types.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT)
    def on_highlight(params: types.DocumentHighlightParams) -> list[types.DocumentHighlight]:
        document, positions = server.opened(params.text_document.uri)
        found = same_name(document, convert.to_offset(positions, params.position))
        return [types.DocumentHighlight(convert.to_range(positions, one.span)) for one in found]


# ---------------------------------------------------------------- what can be changed
def _change(server: PolicyServer) -> None:
    @server.feature(
        types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=["=", "@", "(", "{", " "])
    )
    def on_completion(params: types.CompletionParams) -> types.CompletionList:
        document, positions = server.opened(params.text_document.uri)
        found = complete(document, convert.to_offset(positions, params.position))
        snippets = convert.wants_snippets(server.client_capabilities)
        return convert.to_completion_list(positions, found, with_snippets=snippets)

    @server.feature(types.TEXT_DOCUMENT_PREPARE_RENAME)
    def on_prepare_rename(params: types.PrepareRenameParams) -> types.Range:
        document, positions = server.opened(params.text_document.uri)
        try:
            return convert.to_range(
                positions, renamable(document, convert.to_offset(positions, params.position))
            )
        except Refused as reason:
            raise JsonRpcInvalidParams(str(reason)) from reason

    @server.feature(types.TEXT_DOCUMENT_RENAME, types.RenameOptions(prepare_provider=True))
    def on_rename(params: types.RenameParams) -> types.WorkspaceEdit:
        uri = params.text_document.uri
        document, positions = server.opened(uri)
        try:
            edits = rename(document, convert.to_offset(positions, params.position), params.new_name)
        except Refused as reason:
            raise JsonRpcInvalidParams(str(reason)) from reason
        return convert.to_workspace_edit(uri, positions, edits)

    @server.feature(
        types.TEXT_DOCUMENT_CODE_ACTION,
        types.CodeActionOptions(code_action_kinds=[types.CodeActionKind.QuickFix]),
    )
    def on_code_action(params: types.CodeActionParams) -> list[types.CodeAction]:
        uri = params.text_document.uri
        only = params.context.only
        if only is not None and types.CodeActionKind.QuickFix not in only:
            return []
        document, positions = server.opened(uri)
        found = actions(document, convert.to_span(positions, params.range))
        return [convert.to_code_action(uri, positions, action) for action in found]

    @server.feature(types.TEXT_DOCUMENT_FORMATTING)
    def on_formatting(params: types.DocumentFormattingParams) -> list[types.TextEdit] | None:
        document, positions = server.opened(params.text_document.uri)
        edits = formatted(document)
        return None if edits is None else convert.to_text_edits(positions, edits)
