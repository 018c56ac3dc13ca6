# Caregiver events: a topic, the subscription that the sensor pulls from, and where messages go that are never taken.
# Pulled, not pushed: events wait in the subscription while PostgreSQL or the lake is away, and no endpoint is open.
variable "project" { type = string }
variable "senders" { type = list(string) }
variable "reader" { type = string }
variable "lake_bucket" { type = string }

data "google_project" "this" {
  project_id = var.project
}

data "google_storage_project_service_account" "this" {
  project = var.project
}

locals {
  pubsub = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

resource "google_pubsub_topic" "events" {
  #checkov:skip=CKV_GCP_83:Google's own keys encrypt messages, which are kept for a week; a key of ours could only be lost
  project                    = var.project
  name                       = "bandicoot-events"
  message_retention_duration = "604800s"
}

resource "google_pubsub_topic" "dead" {
  #checkov:skip=CKV_GCP_83:as for the events themselves
  project = var.project
  name    = "bandicoot-events-dead"
}

resource "google_pubsub_topic" "dropped_files" {
  #checkov:skip=CKV_GCP_83:messages name a file and nothing of what is in it
  project = var.project
  name    = "bandicoot-dropped-files"
}

resource "google_pubsub_subscription" "events" {
  project                      = var.project
  name                         = "bandicoot-events"
  topic                        = google_pubsub_topic.events.id
  ack_deadline_seconds         = 120
  message_retention_duration   = "604800s"
  retain_acked_messages        = false
  enable_exactly_once_delivery = false

  # Never: a programme that sends nothing for a month is still listened to.
  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  # What is no event is acknowledged and written down by Bandicoot. Only what it could not even take comes here.
  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead.id
    max_delivery_attempts = 100
  }
}

resource "google_pubsub_subscription" "dead" {
  project                    = var.project
  name                       = "bandicoot-events-dead"
  topic                      = google_pubsub_topic.dead.id
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_subscription_iam_member" "reader" {
  project      = var.project
  subscription = google_pubsub_subscription.events.name
  role         = "roles/pubsub.subscriber"
  member       = "serviceAccount:${var.reader}"
}

resource "google_pubsub_topic_iam_member" "sender" {
  for_each = toset(var.senders)
  project  = var.project
  topic    = google_pubsub_topic.events.name
  role     = "roles/pubsub.publisher"
  member   = each.value
}

# Pub/Sub itself moves what is not taken.
resource "google_pubsub_topic_iam_member" "dead" {
  project = var.project
  topic   = google_pubsub_topic.dead.name
  role    = "roles/pubsub.publisher"
  member  = local.pubsub
}

resource "google_pubsub_subscription_iam_member" "dead" {
  project      = var.project
  subscription = google_pubsub_subscription.events.name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub
}

# The sensor looks into the folder by itself; the topic tells whoever else wants to know that a file was dropped.
resource "google_pubsub_topic_iam_member" "dropped_files" {
  project = var.project
  topic   = google_pubsub_topic.dropped_files.name
  role    = "roles/pubsub.publisher"
  member  = "serviceAccount:${data.google_storage_project_service_account.this.email_address}"
}

resource "google_storage_notification" "dropped_files" {
  bucket             = var.lake_bucket
  topic              = google_pubsub_topic.dropped_files.id
  payload_format     = "JSON_API_V1"
  event_types        = ["OBJECT_FINALIZE"]
  object_name_prefix = "events/"
  depends_on         = [google_pubsub_topic_iam_member.dropped_files]
}

output "subscription" { value = "projects/${var.project}/subscriptions/${google_pubsub_subscription.events.name}" }
output "topic" { value = google_pubsub_topic.events.id }
