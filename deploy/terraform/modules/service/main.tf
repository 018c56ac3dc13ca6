# The API and the call sheet. It asks for keys of its own (docs/operations.md, Keys of the service), since neither call
# centres nor phones have an account of Google's; so Cloud Run asks for none.
variable "project" { type = string }
variable "region" { type = string }
variable "image" { type = string }
variable "identity" { type = string }
variable "network" { type = string }
variable "subnetwork" { type = string }
variable "is_public" { type = bool }
variable "max_instances" { type = number }
variable "is_protected" { type = bool }
variable "environment" { type = map(string) }
# Environment variable to the secret that holds it.
variable "secrets" { type = map(string) }
# Secret with the certificate authority of Redis; null where Redis speaks no TLS.
variable "redis_ca_secret" { type = string }
# Who deploys new revisions from a workflow, and whether there is one.
variable "deployer" { type = string }
variable "has_deployer" { type = bool }

resource "google_cloud_run_v2_service" "this" {
  project              = var.project
  location             = var.region
  name                 = "bandicoot-api"
  deletion_protection  = var.is_protected
  ingress              = var.is_public ? "INGRESS_TRAFFIC_ALL" : "INGRESS_TRAFFIC_INTERNAL_ONLY"
  invoker_iam_disabled = true

  template {
    service_account                  = var.identity
    timeout                          = "300s"
    max_instance_request_concurrency = 80

    scaling {
      min_instance_count = 0
      max_instance_count = var.max_instances
    }

    vpc_access {
      egress = "PRIVATE_RANGES_ONLY"
      network_interfaces {
        network    = var.network
        subnetwork = var.subnetwork
        tags       = ["bandicoot-api"]
      }
    }

    containers {
      image   = var.image
      command = ["bandicoot"]
      args    = ["api", "--host", "0.0.0.0", "--port", "8080"]

      ports {
        container_port = 8080
      }

      resources {
        limits = {
          cpu    = "1"
          memory = "512Mi"
        }
        cpu_idle          = true
        startup_cpu_boost = true
      }

      # /ready says whether the list is of today; a process that cannot give one is not mended by starting another, so
      # it is asked by the uptime check and by who deploys, not here.
      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 2
        failure_threshold = 30
        http_get {
          path = "/health"
        }
      }

      liveness_probe {
        period_seconds    = 30
        timeout_seconds   = 5
        failure_threshold = 3
        http_get {
          path = "/health"
        }
      }

      dynamic "env" {
        for_each = var.environment
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = var.secrets
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = env.value
              version = "latest"
            }
          }
        }
      }

      dynamic "volume_mounts" {
        for_each = var.redis_ca_secret == null ? [] : [1]
        content {
          name       = "redis-ca"
          mount_path = "/etc/bandicoot/redis"
        }
      }
    }

    dynamic "volumes" {
      for_each = var.redis_ca_secret == null ? [] : [1]
      content {
        name = "redis-ca"
        secret {
          secret = var.redis_ca_secret
          items {
            path    = "ca.pem"
            version = "latest"
          }
        }
      }
    }
  }

  # Whoever deploys moves traffic step by step, and brings the image along; gcloud labels each template.
  lifecycle {
    ignore_changes = [traffic, template[0].containers[0].image, template[0].labels, client, client_version]
  }
}

resource "google_cloud_run_v2_service_iam_member" "deployer" {
  count    = var.has_deployer ? 1 : 0
  project  = var.project
  location = var.region
  name     = google_cloud_run_v2_service.this.name
  role     = "roles/run.developer"
  member   = "serviceAccount:${var.deployer}"
}

output "name" { value = google_cloud_run_v2_service.this.name }
output "url" { value = google_cloud_run_v2_service.this.uri }
