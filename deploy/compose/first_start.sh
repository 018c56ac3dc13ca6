#!/bin/sh
# What PostgreSQL's image runs once, on an empty volume: users, their passwords and two databases. As its superuser.
set -eu

psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
\getenv owner BANDICOOT_OWNER_PASSWORD
\getenv pipeline BANDICOOT_PIPELINE_PASSWORD
\getenv service BANDICOOT_SERVICE_PASSWORD
\getenv dagster BANDICOOT_DAGSTER_PASSWORD
\getenv dashboards BANDICOOT_DASHBOARDS_PASSWORD
CREATE ROLE bandicoot_owner LOGIN CREATEROLE PASSWORD :'owner';
CREATE ROLE pipeline LOGIN PASSWORD :'pipeline';
CREATE ROLE service LOGIN PASSWORD :'service';
CREATE ROLE bandicoot_dagster LOGIN PASSWORD :'dagster';
-- A dashboard that asks too much must not hold up a night.
CREATE ROLE dashboards LOGIN PASSWORD :'dashboards' CONNECTION LIMIT 10;
ALTER ROLE dashboards SET statement_timeout = '15s';
ALTER ROLE dashboards SET default_transaction_read_only = on;

CREATE DATABASE bandicoot OWNER bandicoot_owner;
CREATE DATABASE dagster OWNER bandicoot_dagster;
REVOKE ALL ON DATABASE bandicoot, dagster FROM PUBLIC;
GRANT CONNECT ON DATABASE dagster TO dashboards;
SQL

psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=dagster \
    --file="${BANDICOOT_DAGSTER_VIEWS:-/etc/bandicoot/dagster_views.sql}"
