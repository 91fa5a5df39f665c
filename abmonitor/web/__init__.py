"""The page: what the monitor knows, rendered on the server, and kept up to date while somebody looks."""
