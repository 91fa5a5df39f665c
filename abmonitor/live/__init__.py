"""Looks at a running deployment: whether topics, keys, clocks, retention and Redis fit the settings."""
