"""Audits of texts that exist already: every row judged, and what the rows say about the policy."""
