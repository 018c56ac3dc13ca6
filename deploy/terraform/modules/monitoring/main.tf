# What wakes a person when Bandicoot itself cannot: its own alarms (docs/operations.md, Alarms) need PostgreSQL and the
# daemon. These need neither.
variable "project" { type = string }
variable "emails" { type = list(string) }
variable "api_name" { type = string }
# Host of the service; null when it is not reached from the internet, and then nobody outside can ask it.
variable "api_host" { type = string }
variable "has_api_check" { type = bool }
# Cloud SQL instance, Bandicoot's own or shared, and its `max_connections`.
variable "database_instance" { type = string }
variable "database_connections" { type = number }
variable "has_memorystore" { type = bool }
# Metrics of logs by what they count; made before (modules/log_metrics).
variable "log_metrics" { type = map(string) }

locals {
  channels = [for channel in google_monitoring_notification_channel.email : channel.id]
  api      = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = \"${var.api_name}\""
  requests = "${local.api} AND metric.type = \"run.googleapis.com/request_count\""
  database = "resource.type = \"cloudsql_database\" AND resource.labels.database_id = \"${var.project}:${var.database_instance}\" AND metric.type = \"cloudsql.googleapis.com/database/postgresql/num_backends\""
  redis    = "resource.type = \"redis_instance\" AND resource.labels.instance_id = ends_with(\"/instances/bandicoot\") AND metric.type = \"redis.googleapis.com/stats/memory/usage_ratio\""
  counted = {
    for name, metric in var.log_metrics : name => "metric.type = \"logging.googleapis.com/user/${metric}\""
  }
}

resource "google_monitoring_notification_channel" "email" {
  for_each     = toset(var.emails)
  project      = var.project
  display_name = "Bandicoot: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }
}

resource "google_monitoring_alert_policy" "errors" {
  project               = var.project
  display_name          = "Bandicoot: service answers with errors"
  combiner              = "AND"
  notification_channels = local.channels
  documentation {
    content = "More than 5 % of the answers in five minutes were 5xx, and more than 10 of them. Read the service's log; if a release is new, roll it back."
  }
  conditions {
    display_name = "5xx above 5 % for 5 minutes"
    condition_threshold {
      filter             = "${local.requests} AND metric.labels.response_code_class = \"5xx\""
      denominator_filter = local.requests
      comparison         = "COMPARISON_GT"
      threshold_value    = 0.05
      duration           = "300s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_RATE"
        cross_series_reducer = "REDUCE_SUM"
      }
      denominator_aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_RATE"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }
  # While a list is late /ready answers 503 to the uptime check, five times in a quarter of an hour, and at night to
  # nobody else. That has a policy of its own.
  conditions {
    display_name = "more than 10 of them in 5 minutes"
    condition_threshold {
      filter          = "${local.requests} AND metric.labels.response_code_class = \"5xx\""
      comparison      = "COMPARISON_GT"
      threshold_value = 10
      duration        = "0s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }
}

resource "google_monitoring_alert_policy" "latency" {
  project               = var.project
  display_name          = "Bandicoot: service is slow"
  combiner              = "OR"
  notification_channels = local.channels
  documentation {
    content = "The 95th percentile was above one second for five minutes. See whether PostgreSQL or Redis is busy, or instances are at their most."
  }
  conditions {
    display_name = "p95 above 1 s for 5 minutes"
    condition_threshold {
      filter          = "${local.api} AND metric.type = \"run.googleapis.com/request_latencies\""
      comparison      = "COMPARISON_GT"
      threshold_value = 1000
      duration        = "300s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_PERCENTILE_95"
      }
    }
  }
}

resource "google_monitoring_alert_policy" "run_failed" {
  project               = var.project
  display_name          = "Bandicoot: a run failed"
  combiner              = "OR"
  notification_channels = local.channels
  documentation {
    content = "An execution of a run's job ended badly. Dagster's webserver says which and why; docs/operations.md, When something breaks."
  }
  conditions {
    display_name = "an execution failed"
    condition_threshold {
      filter          = "resource.type = \"cloud_run_job\" AND resource.labels.job_name = starts_with(\"bandicoot-run-\") AND metric.type = \"run.googleapis.com/job/completed_execution_count\" AND metric.labels.result = \"failed\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
        group_by_fields      = ["resource.labels.job_name"]
      }
    }
  }
}

# /ready is 503 when the newest list is 26 hours old, counted from 00:00 in India of its day: at 02:00 without today's.
resource "google_monitoring_uptime_check_config" "ready" {
  count            = var.has_api_check ? 1 : 0
  project          = var.project
  display_name     = "Bandicoot: ready"
  timeout          = "30s"
  period           = "900s"
  selected_regions = ["ASIA_PACIFIC", "EUROPE", "USA"]
  http_check {
    path         = "/ready"
    port         = 443
    use_ssl      = true
    validate_ssl = true
  }
  monitored_resource {
    type   = "uptime_url"
    labels = { project_id = var.project, host = var.api_host }
  }
}

resource "google_monitoring_alert_policy" "not_ready" {
  count                 = var.has_api_check ? 1 : 0
  project               = var.project
  display_name          = "Bandicoot: list late, or service away"
  combiner              = "OR"
  notification_channels = local.channels
  documentation {
    content = "/ready fails: PostgreSQL is away, or today's list is not published at 02:00 in India. Open /ready; then see why nightly or daily_list did not end."
  }
  conditions {
    display_name = "not ready for half an hour"
    condition_threshold {
      filter          = "resource.type = \"uptime_url\" AND metric.type = \"monitoring.googleapis.com/uptime_check/check_passed\" AND metric.labels.check_id = \"${google_monitoring_uptime_check_config.ready[0].uptime_check_id}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 1
      duration        = "1800s"
      aggregations {
        alignment_period     = "1200s"
        per_series_aligner   = "ALIGN_NEXT_OLDER"
        cross_series_reducer = "REDUCE_COUNT_FALSE"
        group_by_fields      = ["resource.labels.host"]
      }
    }
  }
}

resource "google_monitoring_alert_policy" "daemon_silent" {
  project               = var.project
  display_name          = "Bandicoot: daemon is silent"
  combiner              = "OR"
  notification_channels = local.channels
  documentation {
    content = "Dagster's daemon has logged nothing for half an hour. Look at the machine bandicoot-control; its serial console and `docker ps` say what runs."
  }
  conditions {
    display_name = "no line for half an hour"
    condition_absent {
      filter   = "resource.type = \"gce_instance\" AND ${local.counted.daemon}"
      duration = "1800s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_SUM"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }
}

resource "google_monitoring_alert_policy" "incidents" {
  project               = var.project
  display_name          = "Bandicoot: an incident was opened"
  combiner              = "OR"
  notification_channels = local.channels
  documentation {
    content = "A list or model is late, a run failed for good, or another of docs/operations.md, Alarms. `bandicoot status` prints what is open, and what to do."
  }
  conditions {
    display_name = "an incident was opened"
    condition_threshold {
      filter          = "resource.type = \"gce_instance\" AND ${local.counted.incidents}"
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_SUM"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }
}

resource "google_monitoring_alert_policy" "untold" {
  for_each              = toset(["gce_instance", "cloud_run_revision", "cloud_run_job"])
  project               = var.project
  display_name          = "Bandicoot: an alarm reached nobody (${each.value})"
  combiner              = "OR"
  notification_channels = local.channels
  documentation {
    content = "The webhook or the mail server refused an alarm. `bandicoot status` prints which incidents are open."
  }
  conditions {
    display_name = "an alarm was not told"
    condition_threshold {
      filter          = "resource.type = \"${each.value}\" AND ${local.counted.untold}"
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_SUM"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }
}

resource "google_monitoring_alert_policy" "dead_letters" {
  project               = var.project
  display_name          = "Bandicoot: events that could not be taken"
  combiner              = "OR"
  notification_channels = local.channels
  documentation {
    content = "Messages went to bandicoot-events-dead after 100 deliveries: PostgreSQL or the lake was away for long. Mend that, then let them be told again (docs/deploy.md)."
  }
  conditions {
    display_name = "a message is dead"
    condition_threshold {
      filter          = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"bandicoot-events-dead\" AND metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "300s"
      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }
}

resource "google_monitoring_alert_policy" "connections" {
  project               = var.project
  display_name          = "Bandicoot: PostgreSQL is short of connections"
  combiner              = "OR"
  notification_channels = local.channels
  documentation {
    content = "Above 90 % of max_connections, of all databases in the instance. `SELECT datname, usename, count(*) FROM pg_stat_activity GROUP BY 1, 2` says whose they are. Lower api_max_instances, or take a larger tier."
  }
  conditions {
    display_name = "connections above 90 %"
    condition_threshold {
      filter          = local.database
      comparison      = "COMPARISON_GT"
      threshold_value = floor(var.database_connections * 0.9)
      duration        = "300s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_MAX"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }
}

resource "google_monitoring_alert_policy" "redis_memory" {
  count                 = var.has_memorystore ? 1 : 0
  project               = var.project
  display_name          = "Bandicoot: Redis is full"
  combiner              = "OR"
  notification_channels = local.channels
  documentation {
    content = "Above 90 % of its memory. Keep no states (BANDICOOT_REDIS_HAS_STATES=false) or take a larger instance."
  }
  conditions {
    display_name = "memory above 90 %"
    condition_threshold {
      filter          = local.redis
      comparison      = "COMPARISON_GT"
      threshold_value = 0.9
      duration        = "300s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }
}

resource "google_monitoring_dashboard" "this" {
  project = var.project
  dashboard_json = jsonencode({
    displayName = "Bandicoot"
    mosaicLayout = {
      columns = 12
      tiles = [for at, chart in concat(
        [
          { title = "Answers per second, by class", filter = local.requests, aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = ["metric.label.response_code_class"] },
          { title = "95th percentile of answers, ms", filter = "${local.api} AND metric.type = \"run.googleapis.com/request_latencies\"", aligner = "ALIGN_DELTA", reducer = "REDUCE_PERCENTILE_95", by = [] },
          { title = "Instances of the service", filter = "${local.api} AND metric.type = \"run.googleapis.com/container/instance_count\"", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = ["metric.label.state"] },
          { title = "Executions of runs, by result", filter = "resource.type = \"cloud_run_job\" AND resource.labels.job_name = starts_with(\"bandicoot-\") AND metric.type = \"run.googleapis.com/job/completed_execution_count\"", aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = ["resource.label.job_name", "metric.label.result"] },
          { title = "Incidents opened", filter = "resource.type = \"gce_instance\" AND ${local.counted.incidents}", aligner = "ALIGN_SUM", reducer = "REDUCE_SUM", by = [] },
          { title = "Events that wait", filter = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = starts_with(\"bandicoot-\") AND metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\"", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", by = ["resource.label.subscription_id"] },
          { title = "Connections to PostgreSQL, of ${var.database_connections}", filter = local.database, aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = ["metric.label.database"] },
          { title = "Processor of the control plane", filter = "resource.type = \"gce_instance\" AND metric.type = \"compute.googleapis.com/instance/cpu/utilization\" AND metric.labels.instance_name = \"bandicoot-control\"", aligner = "ALIGN_MEAN", reducer = "REDUCE_MEAN", by = [] },
        ],
        var.has_memorystore ? [
          { title = "Memory of Redis, share", filter = local.redis, aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", by = [] },
        ] : [],
        # The list's age is not a metric of Google's; 0 here means that it is above 26 hours, or the service away.
        [for check in google_monitoring_uptime_check_config.ready :
          { title = "List fresh and service ready, share of checks", filter = "resource.type = \"uptime_url\" AND metric.type = \"monitoring.googleapis.com/uptime_check/check_passed\" AND metric.labels.check_id = \"${check.uptime_check_id}\"", aligner = "ALIGN_FRACTION_TRUE", reducer = "REDUCE_MEAN", by = [] }
        ],
        ) : {
        xPos = at % 2 * 6, yPos = floor(at / 2) * 4, width = 6, height = 4
        widget = {
          title = chart.title
          xyChart = {
            dataSets = [{
              plotType = "LINE"
              timeSeriesQuery = {
                timeSeriesFilter = {
                  filter = chart.filter
                  aggregation = {
                    # The uptime check asks every quarter of an hour.
                    alignmentPeriod = chart.aligner == "ALIGN_FRACTION_TRUE" ? "1200s" : "300s", perSeriesAligner = chart.aligner, crossSeriesReducer = chart.reducer, groupByFields = chart.by
                  }
                }
              }
            }]
          }
        }
      }]
    }
  })
}

output "channels" { value = local.channels }
