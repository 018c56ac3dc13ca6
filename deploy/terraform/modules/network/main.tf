# One private subnet. Nothing in it has an address on the internet; Google's own services are reached privately.
variable "project" { type = string }
variable "region" { type = string }
variable "subnet_range" { type = string }
variable "shared_network" { type = string }
variable "has_nat" { type = bool }
# Whether Redis is on the machine.
variable "has_redis" { type = bool }

resource "google_compute_network" "own" {
  #checkov:skip=CKV2_GCP_18:both firewalls below are of this network; the rule does not see it through the local value
  count                   = var.shared_network == null ? 1 : 0
  project                 = var.project
  name                    = "bandicoot"
  auto_create_subnetworks = false
}

locals {
  network = var.shared_network == null ? google_compute_network.own[0].id : var.shared_network
}

resource "google_compute_subnetwork" "this" {
  #checkov:skip=CKV_GCP_76:the subnet has IPv4 alone, so there is no IPv6 for private access to cover
  project                  = var.project
  region                   = var.region
  name                     = "bandicoot"
  network                  = local.network
  ip_cidr_range            = var.subnet_range
  private_ip_google_access = true

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
    metadata             = "INCLUDE_ALL_METADATA"
  }
}

# The machine's own: without it, instances on Cloud Run might be given the address while the machine is away.
resource "google_compute_address" "control" {
  project      = var.project
  region       = var.region
  name         = "bandicoot-control"
  address_type = "INTERNAL"
  subnetwork   = google_compute_subnetwork.this.id
  address      = cidrhost(var.subnet_range, 10)
}

# Where Cloud SQL and Memorystore put their private addresses. A shared network has its own already.
resource "google_compute_global_address" "services" {
  count         = var.shared_network == null ? 1 : 0
  project       = var.project
  name          = "bandicoot-services"
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 20
  network       = local.network
}

resource "google_service_networking_connection" "services" {
  count                   = var.shared_network == null ? 1 : 0
  network                 = local.network
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services[0].name]
}

# Outwards only: alarms to a webhook or a mail server.
resource "google_compute_router" "this" {
  count   = var.has_nat ? 1 : 0
  project = var.project
  region  = var.region
  name    = "bandicoot"
  network = local.network
}

# Reserved, so that the firewalls of the source and of mail servers can let it in.
resource "google_compute_address" "outgoing" {
  count        = var.has_nat ? 1 : 0
  project      = var.project
  region       = var.region
  name         = "bandicoot-outgoing"
  address_type = "EXTERNAL"
}

resource "google_compute_router_nat" "this" {
  count                              = var.has_nat ? 1 : 0
  project                            = var.project
  region                             = var.region
  name                               = "bandicoot"
  router                             = google_compute_router.this[0].name
  nat_ip_allocate_option             = "MANUAL_ONLY"
  nat_ips                            = [google_compute_address.outgoing[0].self_link]
  source_subnetwork_ip_ranges_to_nat = "LIST_OF_SUBNETWORKS"

  subnetwork {
    name                    = google_compute_subnetwork.this.id
    source_ip_ranges_to_nat = ["ALL_IP_RANGES"]
  }

  log_config {
    enable = true
    filter = "ERRORS_ONLY"
  }
}

# Operators come through IAP, which has asked who they are; 35.235.240.0/20 is IAP's and nobody else's.
resource "google_compute_firewall" "iap" {
  project       = var.project
  name          = "bandicoot-iap"
  network       = local.network
  direction     = "INGRESS"
  source_ranges = ["35.235.240.0/20"]
  target_tags   = ["bandicoot-control"]

  allow {
    protocol = "tcp"
    ports    = ["22", "3000"]
  }
}

# The webserver asks nobody who they are: of what is inside, the service alone starts training there.
resource "google_compute_firewall" "webserver" {
  project     = var.project
  name        = "bandicoot-webserver"
  network     = local.network
  direction   = "INGRESS"
  source_tags = ["bandicoot-api"]
  target_tags = ["bandicoot-control"]

  allow {
    protocol = "tcp"
    ports    = ["3000"]
  }
}

# Runs fill Redis, the service reads it.
resource "google_compute_firewall" "redis" {
  count       = var.has_redis ? 1 : 0
  project     = var.project
  name        = "bandicoot-redis"
  network     = local.network
  direction   = "INGRESS"
  source_tags = ["bandicoot-api", "bandicoot-runs"]
  target_tags = ["bandicoot-control"]

  allow {
    protocol = "tcp"
    ports    = ["6379"]
  }
}

output "network" { value = local.network }
output "subnetwork" { value = google_compute_subnetwork.this.id }
output "control_address" { value = google_compute_address.control.address }
output "outgoing_address" { value = one(google_compute_address.outgoing[*].address) }
# Cloud SQL and Memorystore wait for it.
output "services" { value = one(google_service_networking_connection.services[*].id) }
