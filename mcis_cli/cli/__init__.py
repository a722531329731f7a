"""What the user types: options, configuration, one stage, one line on stdout."""
