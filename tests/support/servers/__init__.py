"""Servers for the tests: a Redis and a Kafka to share, and own ones that may be hurt.

`redis_server` and `kafka_server` give the first that is found of four: the address in the environment; a
container, where a Docker engine answers; a local process; otherwise none. The addresses are
ABMONITOR_TEST_REDIS (a URL; it is emptied) and ABMONITOR_TEST_KAFKA (host:port, comma-separated). What is
stopped, killed, secured or set up as a group is always a local process: it needs `redis-server`, or `java` (17
or newer) and, once, `mvn`; security also `openssl`. NoServerError says what is missing.
"""

from support.servers.base import NoServerError
from support.servers.certificates import Certificate, Certificates, make_certificates
from support.servers.kafka import KafkaServer, kafka_server
from support.servers.kafka_secured import SecuredKafka, secured_kafka
from support.servers.redis import RedisServer, redis_server
from support.servers.redis_groups import RedisCluster, WatchedRedis, redis_cluster, redis_sentinel
from support.servers.redis_secured import SecuredRedis


__all__ = [
    "Certificate",
    "Certificates",
    "KafkaServer",
    "NoServerError",
    "RedisCluster",
    "RedisServer",
    "SecuredKafka",
    "SecuredRedis",
    "WatchedRedis",
    "kafka_server",
    "make_certificates",
    "redis_cluster",
    "redis_sentinel",
    "redis_server",
    "secured_kafka",
]
