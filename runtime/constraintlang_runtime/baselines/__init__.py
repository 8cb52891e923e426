"""What the method is compared with; each trains through the same trainer and is verified by the same code."""
