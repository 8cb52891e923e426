"""What follows from a policy alone: contradictions, redundancy, comparison with another policy, drift."""
