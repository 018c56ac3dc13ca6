# Redis as a service. Nothing in it needs a backup: everything can be filled again (docs/operations.md, The cache).
variable "project" { type = string }
variable "region" { type = string }
variable "network" { type = string }
# What has to be there first: the network's private addresses for services.
variable "services" { type = string }

resource "google_redis_instance" "this" {
  project                 = var.project
  region                  = var.region
  name                    = "bandicoot"
  tier                    = "BASIC"
  memory_size_gb          = 1
  redis_version           = "REDIS_7_2"
  authorized_network      = var.network
  connect_mode            = "PRIVATE_SERVICE_ACCESS"
  auth_enabled            = true
  transit_encryption_mode = "SERVER_AUTHENTICATION"

  redis_configs = {
    maxmemory-policy = "volatile-lru"
  }

  # Saturdays at 06:00 UTC, with the database.
  maintenance_policy {
    weekly_maintenance_window {
      day = "SATURDAY"
      start_time {
        hours = 6
      }
    }
  }

  depends_on = [var.services]
}

output "host" { value = google_redis_instance.this.host }
output "port" { value = google_redis_instance.this.port }
