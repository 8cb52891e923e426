"""What a run costs before it is started: FLOPs, memory and seconds from shapes alone; no torch."""
