"""Verdicts for people: a terminal table, JSON, and one self-contained HTML page."""
