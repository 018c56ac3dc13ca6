# Dagster's daemon and webserver on one small machine, with what else `code_location_home` and `cache_home` put beside
# them. Why a machine: README.md. It has no address on the internet; people reach the webserver through IAP.
variable "project" { type = string }
variable "region" { type = string }
variable "zone" { type = string }
variable "image" { type = string }
variable "redis_image" { type = string }
variable "machine_type" { type = string }
variable "identity" { type = string }
variable "subnetwork" { type = string }
variable "address" { type = string }
variable "operators" { type = list(string) }
variable "is_protected" { type = bool }
variable "has_code_location" { type = bool }
# Host of the code location on Cloud Run; null when it is here.
variable "code_location_host" { type = string }
# Memory for Redis; 0 means that there is none here.
variable "redis_mb" { type = number }
variable "dagster_yaml" { type = string }
variable "environment" { type = map(string) }
variable "control_secrets" { type = map(string) }
variable "code_secrets" { type = map(string) }

locals {
  registry = split("/", var.image)[0]
  fetch    = file("${path.module}/fetch_secrets.py")

  # Two whole texts, since Terraform would make one type of a port and of true: text.
  workspace = var.has_code_location ? yamlencode({
    load_from = [{ grpc_server = { location_name = "bandicoot", host = "127.0.0.1", port = 4000 } }]
    }) : yamlencode({
    load_from = [{ grpc_server = { location_name = "bandicoot", host = var.code_location_host, port = 443, ssl = true } }]
  })

  # Read-only but for two folders in memory; the configuration of Dagster's instance lies in one of them.
  dagster_options = join(" ", [
    "--tmpfs /tmp",
    "--tmpfs /opt/dagster:mode=1777",
    "-v /etc/bandicoot/dagster.yaml:/opt/dagster/dagster.yaml:ro",
    "-v /etc/bandicoot/workspace.yaml:/opt/dagster/workspace.yaml:ro",
    "-e DAGSTER_HOME=/opt/dagster",
    "--env-file /etc/bandicoot/environment",
  ])

  # Each process gets the secrets that it needs and no others.
  dagster_processes = merge(
    {
      daemon = {
        secrets   = var.control_secrets
        memory_mb = 400
        command   = "dagster-daemon run -w /opt/dagster/workspace.yaml"
      }
      webserver = {
        secrets   = var.control_secrets
        memory_mb = 400
        command   = "dagster-webserver -h 0.0.0.0 -p 3000 -w /opt/dagster/workspace.yaml"
      }
    },
    var.has_code_location ? {
      code = {
        secrets   = var.code_secrets
        memory_mb = 900
        command   = "dagster api grpc --module-name bandicoot_dagster.definitions --host 127.0.0.1 --port 4000"
      }
    } : {},
  )

  processes = merge(
    {
      for name, process in local.dagster_processes : name => {
        memory_mb = process.memory_mb
        fetched = join(" ", concat(
          ["--environment /run/bandicoot/${name}.env"],
          [for variable, secret in process.secrets : "${variable}=${secret}"],
        ))
        options = "--env-file /run/bandicoot/${name}.env ${local.dagster_options}"
        command = "${var.image} ${process.command}"
      }
    },
    # All of it can be filled again, so nothing is written to the disk.
    var.redis_mb > 0 ? {
      redis = {
        memory_mb = var.redis_mb + 100
        fetched   = "--redis /run/bandicoot/redis.conf --owner 999 bandicoot-redis-url"
        options   = "--user 999:999 --entrypoint redis-server -v /run/bandicoot/redis.conf:/redis.conf:ro"
        command   = "${var.redis_image} /redis.conf --bind ${var.address} --save '' --appendonly no --maxmemory ${var.redis_mb}mb --maxmemory-policy volatile-lru"
      }
    } : {},
  )

  units = {
    for name, process in local.processes : name => templatefile("${path.module}/process.service.tftpl", merge(process, {
      name     = name
      image    = var.image
      project  = var.project
      registry = local.registry
    }))
  }

  files = merge(
    {
      "/etc/bandicoot/dagster.yaml"     = var.dagster_yaml
      "/etc/bandicoot/workspace.yaml"   = local.workspace
      "/etc/bandicoot/fetch_secrets.py" = local.fetch
      # In a file, so that no value needs quotes.
      "/etc/bandicoot/environment" = join("", [for name, value in var.environment : "${name}=${value}\n"])
    },
    { for name, unit in local.units : "/etc/systemd/system/bandicoot-${name}.service" => unit },
    { for name in ["prune.service", "prune.timer"] : "/etc/systemd/system/bandicoot-${name}" => file("${path.module}/${name}") },
  )

  # Container-Optimised OS lets in nothing but SSH; the network's firewall says who may come.
  cloud_config = join("\n", ["#cloud-config", yamlencode({
    write_files = [for path, content in local.files : { path = path, permissions = "0644", content = content }]
    runcmd = concat(
      [
        "iptables -w -A INPUT -p tcp --dport 3000 -j ACCEPT",
        "iptables -w -A INPUT -p tcp --dport 6379 -j ACCEPT",
        "mkdir -p -m 0700 /run/bandicoot",
        "systemctl daemon-reload",
      ],
      [for name in keys(local.units) : "systemctl start --no-block bandicoot-${name}.service"],
      ["systemctl start bandicoot-prune.timer"],
    )
  })])
}

resource "google_compute_instance" "this" {
  project                   = var.project
  zone                      = var.zone
  name                      = "bandicoot-control"
  machine_type              = var.machine_type
  tags                      = ["bandicoot-control"]
  deletion_protection       = var.is_protected
  allow_stopping_for_update = true

  # Nothing is kept on it: what Dagster knows is in PostgreSQL, so a new machine is as good as the old one.
  boot_disk {
    #checkov:skip=CKV_GCP_38:it holds an operating system and images; Google's own keys encrypt it
    initialize_params {
      image = "projects/cos-cloud/global/images/family/cos-stable"
      size  = 20
      type  = "pd-balanced"
    }
  }

  network_interface {
    subnetwork = var.subnetwork
    network_ip = var.address
  }

  service_account {
    email  = var.identity
    scopes = ["cloud-platform"]
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  metadata = {
    user-data                 = local.cloud_config
    enable-oslogin            = "TRUE"
    block-project-ssh-keys    = "TRUE"
    serial-port-enable        = "FALSE"
    google-logging-enabled    = "true"
    google-monitoring-enabled = "true"
  }

  lifecycle {
    # A newer system is taken when the machine is made anew, not by surprise.
    ignore_changes = [boot_disk[0].initialize_params[0].image]
  }
}

resource "google_iap_tunnel_instance_iam_member" "operator" {
  for_each = toset(var.operators)
  project  = var.project
  zone     = var.zone
  instance = google_compute_instance.this.name
  role     = "roles/iap.tunnelResourceAccessor"
  member   = each.value
}

# `gcloud compute start-iap-tunnel` looks the machine up before it asks IAP.
resource "google_compute_instance_iam_member" "operator" {
  for_each      = toset(var.operators)
  project       = var.project
  zone          = var.zone
  instance_name = google_compute_instance.this.name
  role          = "roles/compute.viewer"
  member        = each.value
}

output "name" { value = google_compute_instance.this.name }
output "cloud_config" { value = local.cloud_config }
