"""The embedded default: a small documented language, and the public commands run on it end to end."""
