#!/bin/sh
# A streaming copy: made from the primary when its folder is empty, then it follows. COPY_NAME is what the primary calls it
# (synchronous_standby_names), and the name of the slot that keeps for it what it has not got yet.
set -eu
umask 077
: "${PGDATA:?}" "${COPY_NAME:?}" "${PRIMARY_HOST:?}" "${PRIMARY_PORT:=5432}" "${REPLICATION_PASSWORD_FILE:?}"
passwords=${PASSWORDS_FOLDER:-/tmp}/pgpass
printf '%s:%s:*:replicator:%s\n' "$PRIMARY_HOST" "$PRIMARY_PORT" "$(cat "$REPLICATION_PASSWORD_FILE")" > "$passwords"
export PGPASSFILE="$passwords"
reach="host=$PRIMARY_HOST port=$PRIMARY_PORT user=replicator connect_timeout=5"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    unfinished="$PGDATA.new"
    mkdir -p "$(dirname "$PGDATA")"
    until
        # What an interrupted copy left behind is no database, and its slot is there already.
        rm -rf "$unfinished"
        psql "$reach dbname=postgres replication=database" -q -c "CREATE_REPLICATION_SLOT $COPY_NAME PHYSICAL RESERVE_WAL" \
            >/dev/null 2>&1 || :
        pg_basebackup --dbname "$reach" --no-password --pgdata "$unfinished" --slot "$COPY_NAME" \
            --wal-method stream --checkpoint fast
    do
        echo "copy: the primary gives no copy yet" >&2
        sleep 2
    done
    touch "$unfinished/standby.signal"
    mv "$unfinished" "$PGDATA"
fi

exec postgres "$@" -c cluster_name="$COPY_NAME" -c primary_slot_name="$COPY_NAME" \
    -c primary_conninfo="$reach passfile=$passwords application_name=$COPY_NAME"
