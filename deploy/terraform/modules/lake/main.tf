# Three buckets: the lake with its dropped event files, what steps print, and backups. All closed to the public.
variable "project" { type = string }
variable "region" { type = string }
variable "is_protected" { type = bool }
variable "soft_delete_days" { type = number }
variable "backup_retention_days" { type = number }
variable "identities" { type = map(string) }
variable "code_reader" { type = string }
# Cloud SQL's own account of the instance, which writes exports and reads them again.
variable "database_account" { type = string }

resource "google_storage_bucket" "lake" {
  #checkov:skip=CKV_GCP_62:who read what is in Cloud Audit Logs; access logs in a bucket would be a second copy
  #checkov:skip=CKV_GCP_78:a forgotten caregiver has to be gone; versions would keep her, soft delete covers a mistake
  project                     = var.project
  name                        = "${var.project}-bandicoot-lake"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.is_protected

  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * 86400
  }

  # A partition is read for half a year by trainings; after that by nobody but an auditor.
  lifecycle_rule {
    condition {
      age            = 210
      matches_prefix = ["lake/sms_events/", "lake/caregivers/", "lake/vaccinations/", "lake/calls/"]
    }
    action {
      type          = "SetStorageClass"
      storage_class = "NEARLINE"
    }
  }

  lifecycle_rule {
    condition {
      age            = 400
      matches_prefix = ["lake/sms_events/", "lake/caregivers/", "lake/vaccinations/", "lake/calls/"]
    }
    action {
      type          = "SetStorageClass"
      storage_class = "COLDLINE"
    }
  }

  # Dropped files are taken into the lake within a minute.
  lifecycle_rule {
    condition {
      age            = 30
      matches_prefix = ["events/"]
    }
    action {
      type = "Delete"
    }
  }

  lifecycle_rule {
    condition {
      age = 1
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }
}

resource "google_storage_bucket" "logs" {
  #checkov:skip=CKV_GCP_62:what steps print is a log itself
  #checkov:skip=CKV_GCP_78:what steps print is written once and deleted after 90 days
  project                     = var.project
  name                        = "${var.project}-bandicoot-logs"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  # As long as Dagster keeps the logs of runs.
  lifecycle_rule {
    condition {
      age = 90
    }
    action {
      type = "Delete"
    }
  }
}

resource "google_storage_bucket" "backups" {
  #checkov:skip=CKV_GCP_62:who read what is in Cloud Audit Logs; access logs in a bucket would be a second copy
  #checkov:skip=CKV_GCP_78:the retention lets nobody replace or delete a backup, so there is never a second version
  project                     = var.project
  name                        = "${var.project}-bandicoot-backups"
  location                    = var.region
  storage_class               = "NEARLINE"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  retention_policy {
    retention_period = var.backup_retention_days * 86400
  }

  lifecycle_rule {
    condition {
      age = 90
    }
    action {
      type = "Delete"
    }
  }
}

# The service takes events in as the pipeline does, so it writes too.
resource "google_storage_bucket_iam_member" "lake" {
  for_each = toset(["runs", "api", var.code_reader])
  bucket   = google_storage_bucket.lake.name
  role     = "roles/storage.objectUser"
  member   = "serviceAccount:${var.identities[each.value]}"
}

# Runs write what steps print; the daemon and the code location what backfills, sensors and schedules log. The webserver
# shows all of it.
resource "google_storage_bucket_iam_member" "logs" {
  for_each = toset(["runs", "control", var.code_reader])
  bucket   = google_storage_bucket.logs.name
  role     = "roles/storage.objectUser"
  member   = "serviceAccount:${var.identities[each.value]}"
}

# An export makes one object and an import reads one. Neither replaces nor deletes any, which the retention would refuse.
resource "google_storage_bucket_iam_member" "backups" {
  for_each = toset(["roles/storage.objectCreator", "roles/storage.objectViewer"])
  bucket   = google_storage_bucket.backups.name
  role     = each.value
  member   = "serviceAccount:${var.database_account}"
}

output "bucket" { value = google_storage_bucket.lake.name }
output "logs" { value = google_storage_bucket.logs.name }
output "backups" { value = google_storage_bucket.backups.name }
