"""The prelude and the standard library of policies."""
