"""Judgement and action: guardrails, the state machine, orders and who carries them out."""
