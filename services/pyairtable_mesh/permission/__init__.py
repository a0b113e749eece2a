"""The permission service: who may do what, and why."""
