"""What draws completions in training: transformers in this process, or a server."""
