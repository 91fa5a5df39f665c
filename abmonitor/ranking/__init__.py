"""Candidate models ranked by profit on a labelled test set, before any goes live."""
