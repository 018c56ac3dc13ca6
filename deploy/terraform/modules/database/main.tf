# A database for Bandicoot (schema `bandicoot`, and Dagster's storage), in an instance of its own or a shared one.
# Users are made by SQL (docs/operations.md), so that no password is in the state.
variable "project" { type = string }
variable "region" { type = string }
variable "own" { type = bool }
variable "shared_instance" { type = string }
variable "network" { type = string }
# What has to be there first: the network's private addresses for services.
variable "services" { type = string }
variable "tier" { type = string }
variable "disk_gb" { type = number }
variable "is_regional" { type = bool }
variable "is_protected" { type = bool }

resource "google_sql_database_instance" "own" {
  #checkov:skip=CKV2_GCP_13:the duration of every statement would be most of the log; Query Insights shows slow ones
  #checkov:skip=CKV_GCP_79:PostgreSQL 15 to 18 are tested; 17 is the newest that every extension of Cloud SQL is offered for
  count               = var.own ? 1 : 0
  project             = var.project
  region              = var.region
  name                = "bandicoot"
  database_version    = "POSTGRES_17"
  deletion_protection = var.is_protected

  settings {
    tier                        = var.tier
    edition                     = "ENTERPRISE"
    availability_type           = var.is_regional ? "REGIONAL" : "ZONAL"
    disk_type                   = "PD_SSD"
    disk_size                   = var.disk_gb
    disk_autoresize             = true
    disk_autoresize_limit       = var.disk_gb * 4
    deletion_protection_enabled = var.is_protected
    retain_backups_on_delete    = var.is_protected

    ip_configuration {
      ipv4_enabled    = false
      private_network = var.network
      ssl_mode        = "ENCRYPTED_ONLY"
    }

    # 21:30 UTC is 03:00 in India: after the list of the night, before anybody calls.
    backup_configuration {
      enabled                        = true
      start_time                     = "21:30"
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = 7
      backup_retention_settings {
        retained_backups = 14
      }
    }

    # Saturday, 11:30 in India: no run is due, and Sunday's training comes after it.
    maintenance_window {
      day          = 6
      hour         = 6
      update_track = "stable"
    }

    insights_config {
      query_insights_enabled  = true
      record_application_tags = true
      record_client_address   = false
    }

    dynamic "database_flags" {
      for_each = {
        log_checkpoints                     = "on"
        log_connections                     = "on"
        log_disconnections                  = "on"
        log_lock_waits                      = "on"
        log_temp_files                      = "0"
        log_min_messages                    = "warning"
        log_min_error_statement             = "error"
        log_min_duration_statement          = "-1"
        log_hostname                        = "off"
        log_statement                       = "ddl"
        "cloudsql.enable_pgaudit"           = "on"
        idle_in_transaction_session_timeout = "3600000"
      }
      content {
        name  = database_flags.key
        value = database_flags.value
      }
    }
  }

  depends_on = [var.services]

  lifecycle {
    # It grows by itself.
    ignore_changes = [settings[0].disk_size]
  }
}

data "google_sql_database_instance" "shared" {
  count   = var.own ? 0 : 1
  project = var.project
  name    = var.shared_instance
}

resource "google_sql_database" "this" {
  project  = var.project
  instance = var.own ? google_sql_database_instance.own[0].name : var.shared_instance
  name     = "bandicoot"
  # Terraform forgets it when it is taken out of here; its tables stay.
  deletion_policy = "ABANDON"
}

output "instance" { value = google_sql_database.this.instance }
# Who exports to buckets and imports from them.
output "account" {
  value = var.own ? google_sql_database_instance.own[0].service_account_email_address : data.google_sql_database_instance.shared[0].service_account_email_address
}
output "address" {
  value = var.own ? google_sql_database_instance.own[0].private_ip_address : data.google_sql_database_instance.shared[0].private_ip_address
}
