-- Who has which role (docs/operations.md, "Set up"). As bandicoot_owner, after `bandicoot database roles`; as often as
-- you like.
SET client_min_messages = warning;
GRANT bandicoot_writer TO pipeline;
GRANT bandicoot_service TO service;
GRANT bandicoot_watcher TO dashboards;
