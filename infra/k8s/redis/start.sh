#!/bin/sh
# The address is the pod's own, the zone is its node: the keeper puts a master and its replicas on different ones.
set -eu
umask 077
{
    cat /etc/valkey/valkey.conf
    printf 'cluster-announce-ip %s\n' "$POD_IP"
    printf 'availability-zone %s\n' "$NODE_NAME"
    printf 'requirepass %s\nprimaryauth %s\n' "$REDIS_PASSWORD" "$REDIS_PASSWORD"
} > /data/valkey.conf
exec valkey-server /data/valkey.conf
