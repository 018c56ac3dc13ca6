# Where Dagster's code is loaded, where its runs happen, and how the published schema is migrated. Cloud Run never tries
# a run again: Dagster does, and knows which are worth it.
variable "project" { type = string }
variable "region" { type = string }
variable "image" { type = string }
variable "identities" { type = map(string) }
variable "network" { type = string }
variable "subnetwork" { type = string }
variable "has_code_location" { type = bool }
variable "has_nat" { type = bool }
variable "is_protected" { type = bool }
variable "sizes" {
  type = map(object({ cpu = number, memory_gib = number, engine_memory = string, has_gpu = bool }))
}
variable "environment" { type = map(string) }
variable "secrets" { type = map(string) }
variable "owner_secret" { type = string }
variable "redis_ca_secret" { type = string }
# Who deploys new images from a workflow, and whether there is one.
variable "deployer" { type = string }
variable "has_deployer" { type = bool }

locals {
  # With a NAT everything goes through the network, so that alarms leave from one place.
  egress = var.has_nat ? "ALL_TRAFFIC" : "PRIVATE_RANGES_ONLY"
}

# One instance, always there: the daemon asks it every few seconds. Dagster's client can show no identity token that
# Google would take for longer than an hour, so Cloud Run asks for none, and only the network is let in.
resource "google_cloud_run_v2_service" "code_location" {
  count                = var.has_code_location ? 1 : 0
  project              = var.project
  location             = var.region
  name                 = "bandicoot-code"
  deletion_protection  = var.is_protected
  ingress              = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  invoker_iam_disabled = true

  template {
    service_account                  = var.identities["code"]
    timeout                          = "900s"
    max_instance_request_concurrency = 80

    scaling {
      min_instance_count = 1
      max_instance_count = 1
    }

    vpc_access {
      egress = local.egress
      network_interfaces {
        network    = var.network
        subnetwork = var.subnetwork
        tags       = ["bandicoot-runs"]
      }
    }

    containers {
      image   = var.image
      command = ["dagster"]
      args    = ["api", "grpc", "--module-name", "bandicoot_dagster.definitions", "--host", "0.0.0.0", "--port", "4000"]

      # HTTP/2 without TLS inside Google; its front end speaks TLS on 443.
      ports {
        name           = "h2c"
        container_port = 4000
      }

      resources {
        limits = {
          cpu    = "1"
          memory = "1Gi"
        }
        cpu_idle          = true
        startup_cpu_boost = true
      }

      startup_probe {
        period_seconds    = 5
        timeout_seconds   = 5
        failure_threshold = 36
        grpc {
          service = "DagsterApi"
        }
      }

      liveness_probe {
        period_seconds    = 30
        timeout_seconds   = 10
        failure_threshold = 4
        grpc {
          service = "DagsterApi"
        }
      }

      dynamic "env" {
        for_each = merge(var.environment, { BANDICOOT_MEMORY_LIMIT = "500MB" })
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

  lifecycle {
    ignore_changes = [template[0].containers[0].image, template[0].labels, client, client_version]
  }
}

# One job for each size. The launcher starts an execution and gives it the run as arguments.
resource "google_cloud_run_v2_job" "run" {
  for_each            = var.sizes
  project             = var.project
  location            = var.region
  name                = "bandicoot-run-${each.key}"
  deletion_protection = var.is_protected

  template {
    task_count  = 1
    parallelism = 1

    template {
      service_account = var.identities["runs"]
      max_retries     = 0
      # As long as Dagster lets a run be, and a quarter of an hour for its end; Google lets nothing with a GPU take more
      # than an hour. The launcher gives each run its own limit.
      timeout                       = each.value.has_gpu ? "3600s" : "8100s"
      gpu_zonal_redundancy_disabled = each.value.has_gpu ? true : null

      dynamic "node_selector" {
        for_each = each.value.has_gpu ? [1] : []
        content {
          accelerator = "nvidia-l4"
        }
      }

      vpc_access {
        egress = local.egress
        network_interfaces {
          network    = var.network
          subnetwork = var.subnetwork
          tags       = ["bandicoot-runs"]
        }
      }

      containers {
        image = var.image
        # No `command`: the launcher gives the whole command line as arguments, and the image has no entry point. By hand
        # it only says what a run would do.
        args = ["bandicoot", "status"]

        resources {
          limits = merge(
            { cpu = tostring(each.value.cpu), memory = "${each.value.memory_gib}Gi" },
            each.value.has_gpu ? { "nvidia.com/gpu" = "1" } : {},
          )
        }

        dynamic "env" {
          for_each = merge(var.environment, {
            BANDICOOT_MEMORY_LIMIT = each.value.engine_memory
            BANDICOOT_THREADS      = tostring(each.value.cpu)
          })
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
  }

  lifecycle {
    ignore_changes = [template[0].template[0].containers[0].image, template[0].labels, client, client_version]
  }
}

# Brings the published schema to the release of the image, as its owner: before traffic, and by nobody else.
resource "google_cloud_run_v2_job" "migrate" {
  project             = var.project
  location            = var.region
  name                = "bandicoot-migrate"
  deletion_protection = var.is_protected

  template {
    task_count = 1
    template {
      service_account = var.identities["migrate"]
      max_retries     = 0
      timeout         = "3900s"

      vpc_access {
        egress = "PRIVATE_RANGES_ONLY"
        network_interfaces {
          network    = var.network
          subnetwork = var.subnetwork
          tags       = ["bandicoot-migrate"]
        }
      }

      containers {
        image   = var.image
        command = ["bandicoot"]
        args    = ["database", "upgrade"]

        resources {
          limits = { cpu = "1", memory = "1Gi" }
        }

        env {
          name = "BANDICOOT_DATABASE_URL"
          value_source {
            secret_key_ref {
              secret  = var.owner_secret
              version = "latest"
            }
          }
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [template[0].template[0].containers[0].image, template[0].labels, client, client_version]
  }
}

# The daemon starts and stops executions, with the run as arguments, and looks how they are.
resource "google_cloud_run_v2_job_iam_member" "launcher" {
  for_each = {
    for pair in setproduct(keys(var.sizes), ["roles/run.jobsExecutorWithOverrides", "roles/run.viewer"]) :
    "${pair[0]} ${pair[1]}" => { size = pair[0], role = pair[1] }
  }
  project  = var.project
  location = var.region
  name     = google_cloud_run_v2_job.run[each.value.size].name
  role     = each.value.role
  member   = "serviceAccount:${var.identities["control"]}"
}

# A workflow updates images and starts the migration; it never touches what is not named here.
resource "google_cloud_run_v2_job_iam_member" "deployer" {
  for_each = var.has_deployer ? merge(
    { for size, job in google_cloud_run_v2_job.run : size => job.name },
    { migrate = google_cloud_run_v2_job.migrate.name },
  ) : {}
  project  = var.project
  location = var.region
  name     = each.value
  role     = "roles/run.developer"
  member   = "serviceAccount:${var.deployer}"
}

resource "google_cloud_run_v2_service_iam_member" "deployer" {
  count    = var.has_deployer && var.has_code_location ? 1 : 0
  project  = var.project
  location = var.region
  name     = google_cloud_run_v2_service.code_location[0].name
  role     = "roles/run.developer"
  member   = "serviceAccount:${var.deployer}"
}

output "jobs" { value = { for size, job in google_cloud_run_v2_job.run : size => job.name } }
output "migrate_job" { value = google_cloud_run_v2_job.migrate.name }
output "code_location_url" { value = one(google_cloud_run_v2_service.code_location[*].uri) }
