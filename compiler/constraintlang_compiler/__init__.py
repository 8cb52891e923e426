"""From a checked policy to checkers, targets and an artifact."""
