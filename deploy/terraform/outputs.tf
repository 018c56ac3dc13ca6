output "registry" {
  description = "Where the image is pushed to"
  value       = module.registry.address
}

output "secrets" {
  description = "Secrets that need a version before `image` is set"
  value       = sort(keys(module.secrets.names))
}

output "database" {
  description = "Cloud SQL instance and its private address"
  value       = { instance = module.database.instance, address = module.database.address }
}

output "redis" {
  description = "Address of Redis; null without one"
  value       = local.has_memorystore ? "${module.cache[0].host}:${module.cache[0].port}" : (var.cache_home == "vm" ? "${module.network.control_address}:6379" : null)
}

output "outgoing_address" {
  description = "Address that the source, webhooks and mail servers see; null without a NAT"
  value       = module.network.outgoing_address
}

output "lake" {
  description = "Bucket of the lake; event files are dropped below events/"
  value       = module.lake.bucket
}

output "backups" {
  description = "Bucket of backups"
  value       = module.lake.backups
}

output "events_topic" {
  description = "Topic that caregiver events are published to"
  value       = module.events.topic
}

output "service_url" {
  description = "Address of the service; null before an image is set"
  value       = one(module.service[*].url)
}

output "migrate_job" {
  description = "Job that brings the published schema to the image's release"
  value       = one(module.runs[*].migrate_job)
}

output "webserver" {
  description = "How an operator reaches Dagster's webserver; null before an image is set"
  value       = local.runs_something ? "gcloud compute start-iap-tunnel bandicoot-control 3000 --local-host-port=localhost:3000 --zone=${var.zone} --project=${var.project}" : null
}

output "github" {
  description = "What workflows that deploy have to know; null parts without github_repository"
  value       = { provider = module.identities.github_provider, account = module.identities.deployer }
}
