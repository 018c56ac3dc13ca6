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

  workspace = yamlencode({
    load_from = [{
      grpc_server = merge(
        { location_name = "bandicoot" },
        var.has_code_location ? { host = "127.0.0.1", port = 4000 } : { host = var.code_location_host, port = 443, ssl = true },
      )
    }]
  })

  environment_flags = join(" ", [for name, value in var.environment : "-e ${jsonencode("${name}=${value}")}"])
  in_dagster_home   = "--tmpfs /opt/dagster:mode=1777 -v /etc/bandicoot/dagster.yaml:/opt/dagster/dagster.yaml:ro -v /etc/bandicoot/workspace.yaml:/opt/dagster/workspace.yaml:ro -e DAGSTER_HOME=/opt/dagster"

  # Each process gets the secrets that it needs and no others.
  processes = merge(
    {
      daemon = {
        secrets = var.control_secrets
        memory  = "400m"
        command = "dagster-daemon run -w /opt/dagster/workspace.yaml"
      }
      webserver = {
        secrets = var.control_secrets
        memory  = "400m"
        command = "dagster-webserver -h 0.0.0.0 -p 3000 -w /opt/dagster/workspace.yaml"
      }
    },
    var.has_code_location ? {
      code = {
        secrets = var.code_secrets
        memory  = "900m"
        command = "dagster api grpc --module-name bandicoot_dagster.definitions --host 127.0.0.1 --port 4000"
      }
    } : {},
  )

  units = { for name, process in local.processes : name => <<-UNIT
    [Unit]
    Description=Bandicoot: ${name}
    Wants=network-online.target
    After=network-online.target docker.service
    [Service]
    Environment=HOME=/var/lib/bandicoot
    ExecStartPre=/bin/mkdir -p /var/lib/bandicoot
    ExecStartPre=/usr/bin/docker-credential-gcr configure-docker --registries=${local.registry}
    ExecStartPre=-/usr/bin/docker rm --force ${name}
    ExecStartPre=/usr/bin/docker run --rm --network host --user 0:0 --entrypoint python -v /run/bandicoot:/run/bandicoot -v /etc/bandicoot/fetch_secrets.py:/fetch_secrets.py:ro ${var.image} /fetch_secrets.py --project ${var.project} --environment /run/bandicoot/${name}.env ${join(" ", [for variable, secret in process.secrets : "${variable}=${secret}"])}
    ExecStart=/usr/bin/docker run --name ${name} --network host --read-only --tmpfs /tmp ${local.in_dagster_home} --cap-drop ALL --security-opt no-new-privileges --memory ${process.memory} --env-file /run/bandicoot/${name}.env ${local.environment_flags} ${var.image} ${process.command}
    ExecStop=/usr/bin/docker stop --time 60 ${name}
    Restart=always
    RestartSec=15
    [Install]
    WantedBy=multi-user.target
    UNIT
  }

  redis_unit = <<-UNIT
    [Unit]
    Description=Bandicoot: Redis
    Wants=network-online.target
    After=network-online.target docker.service
    [Service]
    Environment=HOME=/var/lib/bandicoot
    ExecStartPre=/bin/mkdir -p /var/lib/bandicoot
    ExecStartPre=/usr/bin/docker-credential-gcr configure-docker --registries=${local.registry}
    ExecStartPre=-/usr/bin/docker rm --force redis
    ExecStartPre=/usr/bin/docker run --rm --network host --user 0:0 --entrypoint python -v /run/bandicoot:/run/bandicoot -v /etc/bandicoot/fetch_secrets.py:/fetch_secrets.py:ro ${var.image} /fetch_secrets.py --project ${var.project} --redis /run/bandicoot/redis.conf bandicoot-redis-url
    ExecStart=/usr/bin/docker run --name redis --network host --read-only --cap-drop ALL --security-opt no-new-privileges --user 0:0 -v /run/bandicoot/redis.conf:/redis.conf:ro --memory ${var.redis_mb + 64}m ${var.redis_image} redis-server /redis.conf --bind ${var.address} --save "" --appendonly no --maxmemory ${var.redis_mb}mb --maxmemory-policy volatile-lru
    ExecStop=/usr/bin/docker stop --time 10 redis
    Restart=always
    RestartSec=15
    [Install]
    WantedBy=multi-user.target
    UNIT

  started = concat(keys(local.units), var.redis_mb > 0 ? ["redis"] : [])

  # Container-Optimised OS lets in nothing but SSH; the network's firewall says who may come.
  cloud_config = "#cloud-config\n${yamlencode({
    write_files = concat(
      [
        { path = "/etc/bandicoot/dagster.yaml", permissions = "0644", content = var.dagster_yaml },
        { path = "/etc/bandicoot/workspace.yaml", permissions = "0644", content = local.workspace },
        { path = "/etc/bandicoot/fetch_secrets.py", permissions = "0644", content = local.fetch },
      ],
      [for name, unit in local.units : { path = "/etc/systemd/system/bandicoot-${name}.service", permissions = "0644", content = unit }],
      var.redis_mb > 0 ? [{ path = "/etc/systemd/system/bandicoot-redis.service", permissions = "0644", content = local.redis_unit }] : [],
    )
    runcmd = concat(
      [
        "iptables -w -A INPUT -p tcp --dport 3000 -j ACCEPT",
        "iptables -w -A INPUT -p tcp --dport 6379 -j ACCEPT",
        "mkdir -p -m 0700 /run/bandicoot",
        "systemctl daemon-reload",
      ],
      [for name in local.started : "systemctl start --no-block bandicoot-${name}.service"],
    )
  })}"
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

output "name" { value = google_compute_instance.this.name }
output "cloud_config" { value = local.cloud_config }
