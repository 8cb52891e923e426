"""One sentence for each word of the language: what hovering over it and completing it show."""

from __future__ import annotations

KEYWORDS = {
    "edition": "The version of the language that the file is written in; its first item.",
    "import": "Brings the names of another policy in, qualified by its alias.",
    "as": "The name under which an imported policy is known here.",
    "let": "Names a constant, made of numbers and other constants.",
    "attribute": "Declares what can be measured on a response: its type, range, good direction, and who measures it.",
    "in": "Within an interval, both ends included; or, of a tag, one of the values of a set.",
    "domain": "Declares a set of prompts; in a condition on prompts, the domain that a row belongs to.",
    "tag": "Declares a tag of prompts and all of its values.",
    "group": "Statements that share clauses.",
    "test": "Expectations on the policy itself: stubbed scores, then verdicts.",
    "given": "The score that an attribute is assumed to have in a test, or one score for each of some samples.",
    "on": "The label of the statement that an expectation is about.",
    "require": "The statement must hold; what a statement without a word of strength means.",
    "prefer": "A soft goal: weighed against others, never traded for a requirement.",
    "preserve": "Utility to keep: usually a quantity of the model on your rows, against the reference model.",
    "always": "No response at all may violate the condition: the tolerance is 0.",
    "implies": "False only when the left side is true and the right side is false.",
    "or": "True when one side is true.",
    "and": "True when both sides are true.",
    "not": "True when the condition is false.",
    "until": "The left side holds at every position before the right side first holds, which it does.",
    "weak_until": "Like `until`, but the right side need never hold.",
    "release": "The right side holds up to and including the position where the left side first holds, if it does.",
    "before": "The right side does not hold until the left side has held at an earlier position.",
    "globally": "True at every position from here on.",
    "eventually": "True at some position from here on.",
    "next": "True at the next position, which exists.",
    "weak_next": "True at the next position, if there is one.",
    "over": "Reads a condition along the positions of a response: its sentences, tokens or turns.",
    "last": "True at the final position.",
    "true": "Always true.",
    "false": "Never true.",
    "for": "Which prompts the statement speaks of.",
    "per": "Demands the statement in every value of the tags.",
    "under": "The conditions of sampling, and the tolerance.",
    "weight": "How much a `prefer` counts against others; 1 when it is not given.",
    "priority": "The rank: a lower number is never traded for a higher one.",
    "confidence": "The confidence of the verdict; 0.95 when it is not given.",
    "because": "The reason for the statement, kept for reports.",
}
STATISTICS = {
    "mean": "The average over responses.",
    "P": "The share of responses that fulfil a condition.",
    "median": "The middle value over responses.",
    "min": "The smallest value over responses.",
    "max": "The largest value over responses.",
    "quantile": "The smallest value that the given share of responses does not exceed.",
    "cvar": "The average over the worst responses: those beyond the quantile of the given level.",
}
QUANTITIES = {
    "perplexity": "The exponential of the model's mean loss per token on your rows; known under `preserve` only.",
    "accuracy": "The share of your rows that the model answers right; known under `preserve` only.",
    "base": "The left side of the comparison, evaluated on the reference model.",
    "inf": "Leaves one end of a range open.",
}
SETTINGS = {
    "tolerance": "The share of responses that may violate a pointwise statement; 5% when it is not given.",
    "temperature": "The temperature at which responses are sampled.",
    "top_p": "Only the most likely tokens that together have this probability are sampled.",
    "top_k": "Only so many of the most likely tokens are sampled.",
    "max_tokens": "The greatest length of a sampled response.",
    "samples": "How many responses are sampled for each prompt.",
}
TYPES = {
    "score": "A number in a finite range, [0, 1] unless another is given.",
    "real": "A number with a unit of its own.",
    "int": "A whole number.",
    "count": "A whole number that is never negative.",
    "flag": "True or false: a condition by itself.",
}
DIRECTIONS = {
    "lower_is_better": "A demand for more is reported.",
    "higher_is_better": "A demand for less is reported.",
}
LEVELS = {
    "sequence": "The whole response.",
    "sentences": "Each sentence of the response.",
    "tokens": "Each token of the response.",
    "turns": "Each turn of the conversation.",
}
FIELDS = {
    "backend": "Who measures the attribute.",
    "levels": "Where the attribute can be measured: the whole response, its sentences, tokens, turns.",
    "source": "Where the prompts of the domain come from.",
    "tags": "The tags that the prompts of the domain have.",
}
BACKENDS = {
    "classifier": "A model that classifies texts; a label names the class whose probability is the score.",
    "lexicon": "A list of words: how many occur, what share, or whether any does.",
    "regex": "A regular expression, in the syntax of RE2: whether it matches, or how often.",
    "length": "The number of words, sentences, characters or tokens.",
    "python": "A function of your own, `module:function`; it runs only when you allow plug-ins.",
    "logprob": "The log-probability of the response under another model.",
}
UNITS = {
    "words": "Counts words.",
    "sentences": "Counts sentences.",
    "characters": "Counts characters.",
    "tokens": "Counts tokens.",
}
OUTCOMES = {
    "pass": "The text fulfils the statement.",
    "fail": "The text violates the statement.",
    "holds": "The stubbed samples show that the statement holds.",
    "violated": "The stubbed samples show that the statement is violated.",
    "inconclusive": "The stubbed samples show neither.",
}
