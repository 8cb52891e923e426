"""Says whether a text is a JSON value that fits a JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.extras import library
from constraintlang_runtime.scorers.json_text import read_json
from constraintlang_runtime.scorers.limits import MAX_CHARACTERS
from constraintlang_runtime.scorers.protocol import TEXT_ALONE

if TYPE_CHECKING:
    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place

REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
PROBES: tuple[Any, ...] = (None, True, 0, "", [], {})


class JsonSchemaScorer:
    """1 when the whole text is one JSON value (see ``JsonScorer``) that the schema accepts, else 0.

    The draft is the one that `$schema` names, else 2020-12. Nothing is fetched: a `$ref` must stay in the file.
    `format` is not checked, as the drafts have it. None above ``MAX_CHARACTERS``.
    Raises: ConfigError for a file that is no schema, or one whose references leave it or lead round in circles.
    """

    terms = TEXT_ALONE

    def __init__(self, path: Path) -> None:
        jsonschema = library("jsonschema", backend="json_schema", extra="text")
        referencing = library("referencing", backend="json_schema", extra="text")
        schema = _read(path)
        for reference in _foreign(schema):
            raise ConfigError(
                f"json_schema: `{path}` refers to `{reference}`, which is not in the file",
                help="copy what it refers to below `$defs` and refer to it by `#/$defs/NAME`",
            )
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        try:
            kind.check_schema(schema)
        except jsonschema.exceptions.SchemaError as error:
            raise ConfigError(
                f"json_schema: `{path}` is no JSON Schema: {error.message} at {error.json_path}",
                help="correct the schema",
            ) from error
        # An own registry retrieves nothing; jsonschema's default one would open URLs.
        self._validator = kind(schema, registry=referencing.Registry())
        for probe in PROBES:
            try:
                self._validator.is_valid(probe)
            except RecursionError as error:
                raise ConfigError(
                    f"json_schema: the references of `{path}` lead round in circles",
                    help="let one of them pass through `properties` or `items`",
                ) from error
            except referencing.exceptions.Unresolvable as error:
                raise ConfigError(
                    f"json_schema: `{path}` refers to something that it does not hold: {error}",
                    help="correct the `$ref`",
                ) from error

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        return [None if len(text) > MAX_CHARACTERS else self.score(text) for text in completions]

    def score(self, text: str) -> float:
        """The score of one text."""
        try:
            value = read_json(text)
        except ValueError:
            return 0.0
        return float(self._validator.is_valid(value))


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> JsonSchemaScorer:
    """The scorer of `json_schema("FILE")`."""
    return JsonSchemaScorer(place.named_file(backend.arguments[0]))


def _read(path: Path) -> Any:
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"json_schema: cannot read `{path}`: {error.strerror}", help="check the path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"json_schema: `{path}` is not JSON: {error}", help="write a JSON Schema"
        ) from error
    if not isinstance(schema, (dict, bool)):
        raise ConfigError(
            f"json_schema: `{path}` holds a {type(schema).__name__}", help="a schema is a JSON object"
        )
    return schema


def _foreign(schema: Any) -> Iterator[str]:
    """References that neither begin with # nor name an `$id` of the file."""
    parts = list(_parts(schema))
    ids = {part["$id"].rstrip("#") for part in parts if isinstance(part.get("$id"), str)}
    for part in parts:
        for key in REFERENCES:
            target = part.get(key)
            if isinstance(target, str) and not target.startswith("#") and target.partition("#")[0] not in ids:
                yield target


def _parts(value: Any) -> Iterator[Mapping[str, Any]]:
    """All objects of a JSON value."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
