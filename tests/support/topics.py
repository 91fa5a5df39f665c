"""Topics that only one test uses. This module does I/O."""

import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any


class Topics:
    """Makes topics with names of their own in a Kafka that others use too, and deletes them at the end."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self.prefix = f"test-{secrets.token_hex(5)}-"
        """What all names begin with; also for consumer groups."""

    def name(self, of: str) -> str:
        """A name that nobody else uses, for a topic or a consumer group."""
        return self.prefix + of

    def create(
        self,
        of: str,
        partitions: int = 1,
        *,
        log_append_time: bool = True,
        configs: Mapping[str, str] | None = None,
    ) -> str:
        """Make a topic, wait until it can be used, and give its full name."""
        name = self.name(of)
        kind = "LogAppendTime" if log_append_time else "CreateTime"
        wanted = {
            "num_partitions": partitions,
            "replication_factor": 1,
            "configs": {"message.timestamp.type": kind, **(configs or {})},
        }
        with self._admin() as admin:
            admin.create_topics({name: wanted}, wait_for_metadata=True)
        return name

    def delete(self) -> None:
        """Delete every topic with this test's prefix, whoever made it."""
        with self._admin() as admin:
            mine = [name for name in admin.list_topics() if name.startswith(self.prefix)]
            if mine:
                admin.delete_topics(mine)

    def _admin(self) -> AbstractContextManager[Any]:
        from kafka import KafkaAdminClient  # only once pytest knows which of its warnings to ignore

        client: AbstractContextManager[Any] = KafkaAdminClient(bootstrap_servers=self.servers)
        return client
