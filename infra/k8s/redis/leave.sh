#!/bin/sh
# Before a master ends: one of its replicas takes over in an orderly way. Without one, or if it takes too long, it just ends.
export REDISCLI_AUTH="$REDIS_PASSWORD"
role() { valkey-cli "$@" INFO replication | tr -d '\r' | sed -n 's/^role://p'; }
[ "$(role)" = master ] || exit 0
replica=$(valkey-cli INFO replication | tr -d '\r' | sed -n 's/^slave0:ip=\([^,]*\),port=\([^,]*\),state=online.*/\1 \2/p')
[ -n "$replica" ] || exit 0
host=${replica% *} port=${replica#* }
valkey-cli -h "$host" -p "$port" CLUSTER FAILOVER || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ "$(role)" = master ] || exit 0
    sleep 0.5
done
