"""From artifact, model and data to a verified model."""
