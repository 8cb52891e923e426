"""A compiled policy in the hands of other tools: datasets, generate, trainers, TRL, pytest."""
