"""What a policy trusts outside its text, pinned: content hashes, revisions, plug-ins; and whether it has moved."""
