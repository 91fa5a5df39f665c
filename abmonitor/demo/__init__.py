"""The demo: real offers, a router that obeys, and a live view, in one process."""
