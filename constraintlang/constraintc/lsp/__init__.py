"""Policies in editors: what there is to say about an open file, and the language server that says it.

Only ``convert`` and ``server`` know the protocol and its library; everything else takes offsets in a text and
returns plain values.
"""
