# Where images are, and how long. What is deployed is pinned by digest. A release is three versions (the image, its
# signature and its list of parts), so that of the sixty that always stay twenty are images.
variable "project" { type = string }
variable "region" { type = string }
variable "reader" { type = string }
# Who else pulls Bandicoot's images, as IAM members: service agents of other projects.
variable "other_readers" { type = list(string) }
variable "has_mirror" { type = bool }

resource "google_artifact_registry_repository" "this" {
  #checkov:skip=CKV_GCP_84:images hold no data of people; Google's own keys encrypt them, and a key of ours could only be lost
  project       = var.project
  location      = var.region
  repository_id = "bandicoot"
  format        = "DOCKER"
  description   = "Images of Bandicoot"

  docker_config {
    immutable_tags = true
  }

  cleanup_policies {
    id     = "keep-newest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 60
    }
  }

  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "7776000s"
    }
  }
}

# Redis's public image, fetched through Google: the control plane needs no way to the internet for it.
resource "google_artifact_registry_repository" "mirror" {
  #checkov:skip=CKV_GCP_84:copies of public images
  count         = var.has_mirror ? 1 : 0
  project       = var.project
  location      = var.region
  repository_id = "bandicoot-mirror"
  format        = "DOCKER"
  mode          = "REMOTE_REPOSITORY"
  description   = "Copies of public images"

  remote_repository_config {
    docker_repository {
      public_repository = "DOCKER_HUB"
    }
  }
}

resource "google_artifact_registry_repository_iam_member" "reader" {
  for_each   = merge({ own = google_artifact_registry_repository.this.name }, var.has_mirror ? { mirror = google_artifact_registry_repository.mirror[0].name } : {})
  project    = var.project
  location   = var.region
  repository = each.value
  role       = "roles/artifactregistry.reader"
  member     = "serviceAccount:${var.reader}"
}

resource "google_artifact_registry_repository_iam_member" "other_reader" {
  for_each   = toset(var.other_readers)
  project    = var.project
  location   = var.region
  repository = google_artifact_registry_repository.this.name
  role       = "roles/artifactregistry.reader"
  member     = each.value
}

output "mirror" { value = "${var.region}-docker.pkg.dev/${var.project}/bandicoot-mirror" }
output "repository" { value = google_artifact_registry_repository.this.name }
output "address" { value = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.this.repository_id}" }
