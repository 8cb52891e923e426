"""The command: one thin file per verb, argv in, exit code out."""
