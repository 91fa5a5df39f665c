"""Tells abmonitor what a model service predicted and what then really happened."""

from abmonitor_client.assignment import assign
from abmonitor_client.buffer import Counts
from abmonitor_client.client import ExperimentClient
from abmonitor_client.timed import Request


__all__ = ["Counts", "ExperimentClient", "Request", "assign"]
