"""Parameter groups, schedules, precision, the step loop and its checkpoints."""
