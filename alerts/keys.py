"""Names of Redis keys of judgement. Pure."""


def experiment_key(deployment: str, experiment: str, name: str) -> str:
    """A key of one experiment; all of them share a slot of a Redis Cluster."""
    return f"{{{deployment}:experiment:{experiment}}}:{name}"
