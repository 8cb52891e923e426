"""Scorers: one file per backend behind one small protocol, and the binding of a policy's attributes to them."""
