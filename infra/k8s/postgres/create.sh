#!/bin/sh
# Once, on the first primary: the role and the database that Fleetwire uses. Patroni gives the address of the new server.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$FLEETWIRE_DATABASE_PASSWORD" "$1" <<'SQL'
CREATE ROLE fleetwire LOGIN PASSWORD :'password';
GRANT pg_monitor TO fleetwire;
CREATE DATABASE fleetwire OWNER fleetwire;
SQL
