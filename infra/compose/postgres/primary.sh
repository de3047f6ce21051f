#!/bin/sh
# At the first start of the primary: somebody who may copy it. Runs once, from /docker-entrypoint-initdb.d.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$(cat /run/secrets/replication-password)" \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE replicator REPLICATION LOGIN PASSWORD :'password';
SQL
printf 'host replication replicator samenet scram-sha-256\n' >> "$PGDATA/pg_hba.conf"
