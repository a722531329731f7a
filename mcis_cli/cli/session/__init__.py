"""What every command works with: workspace, options, completion."""
