"""What the permission service does for its callers."""
