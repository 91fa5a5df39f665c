"""What several tests share: a reference model, event generators, servers, and stores that fail."""
