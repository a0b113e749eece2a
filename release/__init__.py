"""What `make release` is made of, beyond what tools do: versions, changelog, Go module, checksums."""
