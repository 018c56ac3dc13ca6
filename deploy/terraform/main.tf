# What Bandicoot is made of on Google Cloud. Each module is one thing; here is who is given what.

locals {
  sizes = jsondecode(file("${path.module}/sizes.json")).sizes
  # The smallest size that holds the programme.
  scale = min([for caregivers in keys(local.sizes) : tonumber(caregivers) if tonumber(caregivers) >= var.caregivers]...)
  size  = local.sizes[tostring(local.scale)]

  # What a month may cost: the sum of what is made. docs/costs.md has the bills beside it.
  budget_usd = coalesce(var.monthly_budget_usd, sum(concat(
    [local.size.budget_usd.always],
    local.is_code_on_vm ? [] : [local.size.budget_usd.code_location],
    var.own_database ? [local.size.budget_usd.database * (var.database_is_regional ? 2 : 1)] : [],
    local.has_memorystore ? [local.size.budget_usd.memorystore] : [],
    var.has_nat ? [local.size.budget_usd.nat] : [],
  )))

  # Settings that `var.settings` may not hold: a variable, a secret or something that is made here gives them.
  settings_of_terraform = [
    "BANDICOOT_ALARM_SMTP_URL", "BANDICOOT_ALARM_WEBHOOK_URL", "BANDICOOT_API_DAGSTER_URL",
    "BANDICOOT_API_SESSION_SECRET", "BANDICOOT_BUDGET", "BANDICOOT_DAGSTER_STORAGE_URL", "BANDICOOT_DATABASE_URL",
    "BANDICOOT_DISTRICTS", "BANDICOOT_EVENTS_FOLDER", "BANDICOOT_EVENTS_SUBSCRIPTION", "BANDICOOT_EXPERIMENT",
    "BANDICOOT_HOME", "BANDICOOT_LAKE_ROOT", "BANDICOOT_LOG_BUCKET", "BANDICOOT_LOG_FORMAT", "BANDICOOT_MEMORY_LIMIT",
    "BANDICOOT_POOL_SIZE", "BANDICOOT_REDIS_URL", "BANDICOOT_SOURCE_URL", "BANDICOOT_THREADS",
  ]
  # Addresses of pages, in which there is no password.
  public_addresses = ["BANDICOOT_REPOSITORY_URL", "BANDICOOT_PUBLISHED_TABLE_URL"]

  runs_something  = var.image != null
  is_code_on_vm   = var.code_location_home == "vm"
  has_redis       = var.cache_home != "none"
  has_memorystore = var.cache_home == "memorystore"
  # Who runs Dagster's code, and so reads its secrets and pulls its events.
  code = local.is_code_on_vm ? "control" : "code"

  # Secret to who reads it.
  secret_readers = merge(
    {
      "bandicoot-owner-url"           = ["migrate"]
      "bandicoot-database-url"        = distinct(["runs", local.code])
      "bandicoot-service-url"         = ["api"]
      "bandicoot-source-url"          = distinct(["runs", local.code])
      "bandicoot-dagster-storage-url" = distinct(["runs", "control", local.code])
      "bandicoot-session-secret"      = ["api"]
    },
    local.has_redis ? { "bandicoot-redis-url" = distinct(concat(["runs", "api", local.code], local.is_code_on_vm ? ["control"] : [])) } : {},
    local.has_memorystore ? { "bandicoot-redis-ca" = distinct(["runs", "api", local.code]) } : {},
    var.has_alarm_webhook ? { "bandicoot-alarm-webhook-url" = distinct(["runs", local.code]) } : {},
    var.has_alarm_mail ? { "bandicoot-alarm-smtp-url" = distinct(["runs", local.code]) } : {},
  )

  redis_secrets = local.has_redis ? { BANDICOOT_REDIS_URL = "bandicoot-redis-url" } : {}
  code_secrets = merge(
    {
      BANDICOOT_DATABASE_URL        = "bandicoot-database-url"
      BANDICOOT_SOURCE_URL          = "bandicoot-source-url"
      BANDICOOT_DAGSTER_STORAGE_URL = "bandicoot-dagster-storage-url"
    },
    local.redis_secrets,
    var.has_alarm_webhook ? { BANDICOOT_ALARM_WEBHOOK_URL = "bandicoot-alarm-webhook-url" } : {},
    var.has_alarm_mail ? { BANDICOOT_ALARM_SMTP_URL = "bandicoot-alarm-smtp-url" } : {},
  )
  control_secrets = { BANDICOOT_DAGSTER_STORAGE_URL = "bandicoot-dagster-storage-url" }
  api_secrets = merge(
    { BANDICOOT_DATABASE_URL = "bandicoot-service-url", BANDICOOT_API_SESSION_SECRET = "bandicoot-session-secret" },
    local.redis_secrets,
  )

  logs = { BANDICOOT_LOG_FORMAT = "json" }
  lists = {
    BANDICOOT_LAKE_ROOT  = "gs://${module.lake.bucket}/lake"
    BANDICOOT_BUDGET     = tostring(var.call_budget)
    BANDICOOT_EXPERIMENT = var.experiment
    BANDICOOT_DISTRICTS  = jsonencode(var.districts)
  }
  code_environment = merge(var.settings, local.logs, local.lists, {
    # Cloud Run and the machine let nothing but /tmp be written.
    BANDICOOT_HOME                = "/tmp/bandicoot"
    BANDICOOT_LOG_BUCKET          = module.lake.logs
    BANDICOOT_EVENTS_FOLDER       = "gs://${module.lake.bucket}/events"
    BANDICOOT_EVENTS_SUBSCRIPTION = module.events.subscription
  })
  api_environment = merge(var.settings, local.logs, local.lists, {
    BANDICOOT_HOME            = "/tmp/bandicoot"
    BANDICOOT_API_DAGSTER_URL = "http://${module.network.control_address}:3000"
    # With ten instances: forty connections at most, two of each to look whether the database answers.
    BANDICOOT_POOL_SIZE = "2"
  })

  run_sizes = merge(
    { small = merge(local.size.small_run, { has_gpu = false }), large = merge(local.size.large_run, { has_gpu = false }) },
    var.has_gpu_job ? { gpu = { cpu = 4, memory_gib = 16, engine_memory = "10GB", has_gpu = true } } : {},
  )

  # Dagster's instance as wherever runs are started on Cloud Run, with the names of this project.
  dagster_yaml = yamlencode(merge(yamldecode(file("${path.module}/../dagster.cloudrun.yaml")), {
    run_launcher = {
      module = var.run_launcher.module
      class  = var.run_launcher.class
      config = merge({
        project     = var.project
        region      = var.region
        jobs        = { for size in keys(local.run_sizes) : size => "bandicoot-run-${size}" }
        run_timeout = 7200
      }, jsondecode(var.run_launcher.config))
    }
  }))
}

resource "google_project_service" "this" {
  for_each = toset(concat([
    "artifactregistry", "billingbudgets", "cloudresourcemanager", "compute", "iam", "iamcredentials", "iap", "logging",
    "monitoring", "pubsub", "redis", "run", "secretmanager", "servicenetworking", "sqladmin", "storage", "sts",
  ], var.github_repository == null ? [] : ["ondemandscanning"]))
  project            = var.project
  service            = "${each.value}.googleapis.com"
  disable_on_destroy = false
}

module "network" {
  source         = "./modules/network"
  project        = var.project
  region         = var.region
  subnet_range   = var.subnet_range
  shared_network = var.shared_network
  has_nat        = var.has_nat
  has_redis      = var.cache_home == "vm"
  depends_on     = [google_project_service.this]
}

module "registry" {
  source        = "./modules/registry"
  project       = var.project
  region        = var.region
  reader        = module.identities.emails["control"]
  other_readers = var.registry_readers
  has_mirror    = var.cache_home == "vm"
  depends_on    = [google_project_service.this]
}

module "identities" {
  source            = "./modules/identities"
  project           = var.project
  region            = var.region
  registry          = module.registry.repository
  github_repository = var.github_repository
  depends_on        = [google_project_service.this]
}

module "secrets" {
  source     = "./modules/secrets"
  project    = var.project
  region     = var.region
  readers    = local.secret_readers
  identities = module.identities.emails
  depends_on = [google_project_service.this]
}

module "lake" {
  source                = "./modules/lake"
  project               = var.project
  region                = var.region
  is_protected          = var.is_protected
  soft_delete_days      = var.lake_soft_delete_days
  backup_retention_days = var.backup_retention_days
  identities            = module.identities.emails
  code_reader           = local.code
  database_account      = module.database.account
  depends_on            = [google_project_service.this]
}

module "events" {
  source      = "./modules/events"
  project     = var.project
  senders     = var.event_senders
  reader      = module.identities.emails[local.code]
  lake_bucket = module.lake.bucket
  depends_on  = [google_project_service.this]
}

module "database" {
  source          = "./modules/database"
  project         = var.project
  region          = var.region
  own             = var.own_database
  shared_instance = var.shared_database
  network         = module.network.network
  services        = module.network.services
  tier            = local.size.database_tier
  disk_gb         = local.size.database_gb
  is_regional     = var.database_is_regional
  is_protected    = var.is_protected
  depends_on      = [google_project_service.this]
}

module "cache" {
  count      = local.has_memorystore ? 1 : 0
  source     = "./modules/cache"
  project    = var.project
  region     = var.region
  network    = module.network.network
  services   = module.network.services
  depends_on = [google_project_service.this]
}

module "runs" {
  count             = local.runs_something ? 1 : 0
  source            = "./modules/runs"
  project           = var.project
  region            = var.region
  image             = var.image
  identities        = module.identities.emails
  network           = module.network.network
  subnetwork        = module.network.subnetwork
  has_code_location = !local.is_code_on_vm
  has_nat           = var.has_nat
  is_protected      = var.is_protected
  sizes             = local.run_sizes
  environment       = local.code_environment
  secrets           = local.code_secrets
  owner_secret      = "bandicoot-owner-url"
  redis_ca_secret   = local.has_memorystore ? "bandicoot-redis-ca" : null
  deployer          = module.identities.deployer
  has_deployer      = var.github_repository != null
  depends_on        = [module.secrets, module.database]
}

module "service" {
  count           = local.runs_something ? 1 : 0
  source          = "./modules/service"
  project         = var.project
  region          = var.region
  image           = var.image
  identity        = module.identities.emails["api"]
  network         = module.network.network
  subnetwork      = module.network.subnetwork
  is_public       = var.api_is_public
  max_instances   = var.api_max_instances
  is_protected    = var.is_protected
  environment     = local.api_environment
  secrets         = local.api_secrets
  redis_ca_secret = local.has_memorystore ? "bandicoot-redis-ca" : null
  deployer        = module.identities.deployer
  has_deployer    = var.github_repository != null
  depends_on      = [module.secrets, module.database]
}

module "control_plane" {
  count              = local.runs_something ? 1 : 0
  source             = "./modules/control_plane"
  project            = var.project
  region             = var.region
  zone               = var.zone
  image              = var.image
  redis_image        = "${module.registry.mirror}/library/redis:7.2"
  machine_type       = local.size.control_plane_machine[local.is_code_on_vm ? "with_code_location" : "alone"]
  identity           = module.identities.emails["control"]
  subnetwork         = module.network.subnetwork
  address            = module.network.control_address
  operators          = var.operators
  is_protected       = var.is_protected
  has_code_location  = local.is_code_on_vm
  code_location_host = local.is_code_on_vm ? null : trimprefix(module.runs[0].code_location_url, "https://")
  redis_mb           = var.cache_home == "vm" ? local.size.redis_mb : 0
  dagster_yaml       = local.dagster_yaml
  environment        = local.is_code_on_vm ? local.code_environment : merge(var.settings, local.logs, { BANDICOOT_HOME = "/tmp/bandicoot", BANDICOOT_LOG_BUCKET = module.lake.logs })
  control_secrets    = local.control_secrets
  code_secrets       = local.code_secrets
  depends_on         = [module.secrets, module.database]
}

module "log_metrics" {
  source     = "./modules/log_metrics"
  project    = var.project
  depends_on = [google_project_service.this]
}

module "monitoring" {
  count                = local.runs_something ? 1 : 0
  source               = "./modules/monitoring"
  project              = var.project
  emails               = var.alert_emails
  api_name             = module.service[0].name
  api_host             = trimprefix(module.service[0].url, "https://")
  has_api_check        = var.api_is_public
  database_instance    = module.database.instance
  database_connections = var.own_database ? local.size.database_connections : var.shared_database_connections
  has_memorystore      = local.has_memorystore
  log_metrics          = module.log_metrics.names
}

module "budget" {
  count           = var.billing_account == null || !local.runs_something ? 0 : 1
  source          = "./modules/budget"
  project         = var.project
  billing_account = var.billing_account
  amount          = floor(local.budget_usd * var.currency_per_usd)
  currency        = var.budget_currency
  channels        = module.monitoring[0].channels
}
