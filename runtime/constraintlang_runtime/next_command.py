"""The command that verifies a model that was just trained, with the files to fill in."""

from __future__ import annotations

import shlex

from constraintlang_compiler.domains import matches
from constraintlang_compiler.ir import PolicyIR
from constraintlang_compiler.measurements import reads_base_model
from constraintlang_runtime.columns import split_domain
from constraintlang_runtime.run_settings import RunSettings
from constraintlang_runtime.sampling_law import SamplingLaw, stop_texts


def eval_command(policy: str, ir: PolicyIR, given: RunSettings) -> str:
    """``constraintc eval`` for the run: prompts and rows of each domain that the run's files name, and the start model.

    By the law that the run sampled by, and with what it was allowed.

    A domain that stands in a column of the files, and not before ``=``, is not written.
    """
    domains = dict.fromkeys(split_domain(spec)[0] for spec in (*given.data, *given.prompts))
    words = ["constraintc", "eval", policy, "--model", given.output]
    judged = [clause for clause in ir.clauses if clause.kind != "utility"]
    measured = [clause for clause in ir.clauses if clause.kind == "utility"]
    for flag, clauses in (("--prompts", judged), ("--rows", measured)):
        place = "HELD_OUT" if flag == "--prompts" else "HELD_OUT_ROWS"
        for domain in domains:
            tags = {} if domain is None else {"domain": domain}
            if any(domain is None or matches(clause.domain, tags) for clause in clauses):
                words += [flag, f"{place}.jsonl" if domain is None else f"{domain}={place}.jsonl"]
    if measured or any(clause.base_factor is not None or reads_base_model(clause) for clause in judged):
        words += ["--base", given.model]
    for option in given.scorer:
        words += ["--scorer", option]
    law = SamplingLaw()
    for name in ("max_new_tokens", "temperature", "top_p"):  # what was trained is what is verified
        value = given.config.get(name, getattr(law, name))
        if value != getattr(law, name):
            words += [f"--{name}", f"{value:g}"]
    for text in stop_texts(given.config.get("stop")):
        typed = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
        words += [f"--stop={typed}"]  # it may begin like a flag
    words += ["--chat"] * bool(given.config.get("chat"))
    words += [
        f"--{name.replace('_', '-')}"
        for name in ("allow_path", "allow_code", "allow_plugins")
        if getattr(given, name)
    ]
    return shlex.join([*words, "--output", f"{given.output}-eval"])
