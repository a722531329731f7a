"""What people see: bars, tables, streams."""
