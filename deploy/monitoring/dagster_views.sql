-- What dashboards see of Dagster's storage: how runs went, and what the newest cost reports say. Nothing else of it, since
-- runs' configuration and logs hold more. In the database of Dagster's storage, as a superuser; as often as you like.
--
-- Functions, not views: Dagster makes its tables at its first start and changes them in its own migrations, which views
-- would come too early for, and stand in the way of.
SET client_min_messages = warning;
SET ROLE bandicoot_dagster;
SET check_function_bodies = off;
CREATE SCHEMA IF NOT EXISTS dashboards;

CREATE OR REPLACE FUNCTION dashboards.runs(earliest timestamptz, latest timestamptz)
RETURNS TABLE (job text, status text, partition text, created_at timestamptz, started_at timestamptz, ended_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT pipeline_name, status, partition, create_timestamp AT TIME ZONE 'UTC', to_timestamp(start_time),
        to_timestamp(end_time)
    FROM runs
    WHERE create_timestamp BETWEEN (earliest AT TIME ZONE 'UTC') AND (latest AT TIME ZONE 'UTC')
$$;

-- The newest report of each day.
CREATE OR REPLACE FUNCTION dashboards.cost_reports(earliest timestamptz, latest timestamptz)
RETURNS TABLE (day date, fact text, amount double precision, shown text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT newest.partition::date, entry ->> 'label', (entry #>> '{entry_data,value}')::double precision,
        entry #>> '{entry_data,md_str}'
    FROM (
        SELECT DISTINCT ON (partition) partition, event FROM event_logs
        WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND asset_key = '["cost_report"]'
            AND partition BETWEEN to_char(earliest, 'YYYY-MM-DD') AND to_char(latest, 'YYYY-MM-DD')
        ORDER BY partition, id DESC
    ) AS newest, jsonb_array_elements(
        newest.event::jsonb #> '{dagster_event,event_specific_data,materialization,metadata_entries}'
    ) AS entry
    WHERE entry ->> 'label' IN (
        'spent_usd', 'projected_usd', 'monthly_limit_usd', 'estimated_usd', 'billed_usd', 'table_of_spending'
    )
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA dashboards FROM PUBLIC;
GRANT USAGE ON SCHEMA dashboards TO dashboards;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dashboards TO dashboards;
RESET ROLE;
