"""Finite automata of what a policy says about order and wording, for checking, watching and masking."""
