#!/bin/sh
# Kafka, on a data folder that is made ready the first time. Nothing but the data folder and /tmp is written to.
set -eu
home=/opt/kafka
properties=/etc/kafka/server.properties

"$home/bin/kafka-storage.sh" format --ignore-formatted --cluster-id "$KAFKA_CLUSTER_ID" --config "$properties"
exec "$home/bin/kafka-server-start.sh" "$properties"
