# What is counted in logs. Apart from the alert policies, and made with what everything stands on: Cloud Monitoring knows a
# new metric only after some minutes, and refuses a policy that watches one it does not know.
variable "project" { type = string }

# The daemon logs a line for each sensor every minute; silence means that no night will begin.
resource "google_logging_metric" "daemon" {
  project = var.project
  name    = "bandicoot/daemon_lines"
  filter  = "resource.type=\"gce_instance\" AND \"dagster.daemon\""
  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
  }
}

# The sensor `alarms` says with each look how many incidents it opened: a late list or model, a failed run and the like.
# So they are heard of without a webhook, and where nobody outside can ask the service.
resource "google_logging_metric" "incidents" {
  project = var.project
  name    = "bandicoot/incidents"
  filter  = "resource.type=\"gce_instance\" AND \"incidents opened\" AND NOT \"alarms skipped: 0 incidents opened\""
  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
  }
}

# An alarm of Bandicoot's that reached nobody: pipeline/alarms.py logs it so.
resource "google_logging_metric" "untold" {
  project = var.project
  name    = "bandicoot/untold_alarms"
  filter  = "resource.type=(\"gce_instance\" OR \"cloud_run_revision\" OR \"cloud_run_job\") AND \"was not told by\""
  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
  }
}

output "names" {
  value = {
    daemon    = google_logging_metric.daemon.name
    incidents = google_logging_metric.incidents.name
    untold    = google_logging_metric.untold.name
  }
}
