"""Write docs/api.md from the docstrings of the public names, which it reads: ``python docs/make_api.py``."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).parent / "api.md"
RUNTIME = ROOT / "runtime" / "constraintlang_runtime"
HEAD = """# The names of the Python package

<!-- Written by docs/make_api.py; edit the docstrings, not this page. -->

```py
from constraintlang_runtime import ConstraintTrainer, Policy, load_rows
```

The first seven names are imported so; each is loaded when it is first used, and torch with those that need it. The
others are what these take and give, from the module that stands under their name. How they fit together:
[how-to](how-to.md), [integrations](integrations.md). Errors are those of `constraintlang_runtime.errors`.
"""
NAMES = (
    ("trainer", "ConstraintTrainer"),
    ("config", "ConstraintConfig"),
    ("integrations.policy", "Policy"),
    ("integrations.callback", "ConstraintCallback"),
    ("integrations.reward", "PolicyReward"),
    ("integrations.testing", "assert_satisfies"),
    ("row_files", "load_rows"),
    ("integrations.verifying", "verify"),
    ("evaluation", "Evaluation"),
    ("verdicts", "Verdict"),
    ("generation", "DecodingSettings"),
    ("integrations.guide", "fit_guide"),
    ("integrations.guide", "Guide"),
    ("integrations.metric", "PolicyMetric"),
    ("integrations.policy", "Judged"),
)
PUBLIC = 7
HIDDEN = {  # for other modules of the package
    "ConstraintTrainer": (
        "before_step", "before_checkpoint", "write_state", "read_state", "best_checkpoint", "restore_finished",
        "finish",
    ),
    "ConstraintConfig": ("over", "places_on"),
    "Policy": ("scored",),
}  # fmt: skip


def render() -> str:
    """The whole page."""
    parts = [HEAD]
    for number, (module, name) in enumerate(NAMES):
        node = _found(module, name)
        home = "" if number < PUBLIC else f"\n`constraintlang_runtime.{module}`\n"
        parts.append(f"## {name}\n{home}\n{_signature(node, name)}{_text(node)}\n")
        if isinstance(node, ast.ClassDef):
            parts += [
                f"### {name}.{each.name}\n\n{_signature(each, each.name)}{_text(each)}\n"
                for each in node.body
                if isinstance(each, ast.FunctionDef)
                and not each.name.startswith(("_", "on_"))
                and each.name not in HIDDEN.get(name, ())
            ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


def _found(module: str, name: str) -> ast.ClassDef | ast.FunctionDef:
    """The definition of a name.

    Raises: LookupError when the module has none.
    """
    tree = ast.parse((RUNTIME / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
    raise LookupError(f"{module} has no {name}")


def _signature(node: ast.ClassDef | ast.FunctionDef, name: str) -> str:
    """The call as code; the fields of a record; nothing for a class that is made elsewhere."""
    if isinstance(node, ast.ClassDef):
        made = next((f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
        given = [f for f in node.body if isinstance(f, ast.AnnAssign) and name != "ConstraintConfig"]
        if made is not None:
            return _fenced(f"{name}({_arguments(made)})")
        return _fenced("\n".join(ast.unparse(field) for field in given)) if given else ""
    kinds = {ast.unparse(each) for each in node.decorator_list}
    if "property" in kinds:
        return _fenced(f"{name} -> {ast.unparse(node.returns)}" if node.returns else name)
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return _fenced(f"{name}({_arguments(node)}){returned}")


def _arguments(node: ast.FunctionDef) -> str:
    """The arguments without self and cls, one line each where they are many."""
    given = node.args
    every = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(every) - len(given.defaults)) + [ast.unparse(one) for one in given.defaults]
    found = [_argument(one, default) for one, default in zip(every, defaults, strict=True)]
    if every and every[0].arg in ("self", "cls"):
        found = found[1:]
    if given.vararg:
        found.append(f"*{_argument(given.vararg, None)}")
    elif given.kwonlyargs:
        found.append("*")
    for one, value in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        found.append(_argument(one, None if value is None else ast.unparse(value)))
    if given.kwarg:
        found.append(f"**{_argument(given.kwarg, None)}")
    shown = ", ".join(found)
    return shown if len(shown) < 90 else "".join(f"\n    {one}," for one in found) + "\n"


def _argument(one: ast.arg, default: str | None) -> str:
    shown = one.arg if one.annotation is None else f"{one.arg}: {ast.unparse(one.annotation)}"
    return shown if default is None else f"{shown} = {default}"


def _fenced(code: str) -> str:
    code = re.sub(r"'([^'\"\\]*)'", r'"\1"', code)  # as the formatter of the repository writes strings
    return f"```py\n{code}\n```\n\n"


def _text(node: ast.ClassDef | ast.FunctionDef) -> str:
    """A docstring as Markdown: examples fenced, arguments as a list."""
    lines: list[str] = []
    inside = example = False
    for line in inspect.cleandoc(ast.get_docstring(node) or "").splitlines():
        if line.startswith(">>>") != example and (line.startswith(">>>") or not line):
            lines.append("\n```py" if not example else "```")
            example = not example
        if example:
            lines.append(line)
            continue
        line = line.replace("``", "`")
        if line == "Args:":
            inside = True
            lines.append("")
            continue
        if inside and (found := re.match(r"    (\w+): (.*)", line)):
            line = f"- `{found[1]}`: {found[2]}"
        elif inside and line.startswith("        "):
            line = f"  {line.strip()}"
        else:
            inside = inside and bool(line.strip()) and line.startswith(" ")
            line = f"\n{line}" if line.startswith(("Raises:", "Returns", "Equation:", "Source:")) else line
        lines.append(line)
    if example:
        lines.append("```")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
