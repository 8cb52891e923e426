"""The parallel schedule: three lanes that sample and score, fit, and train at the same time, with bounded staleness."""
