"""The permission service's tables, version by version."""
