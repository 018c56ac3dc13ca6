variable "project" {
  description = "Google Cloud project, which exists and has a billing account"
  type        = string
}

variable "region" {
  description = "Region of everything; the prices of the cost table are those of asia-south1 (Mumbai)"
  type        = string
  default     = "asia-south1"
}

variable "zone" {
  description = "Zone of the control plane, in the region"
  type        = string
  default     = "asia-south1-a"
}

variable "caregivers" {
  description = "Caregivers of the programme; machines are as large as sizes.json says for that many"
  type        = number
  validation {
    condition     = var.caregivers > 0 && var.caregivers <= 1000000
    error_message = "sizes.json knows programmes of up to 1,000,000 caregivers; add a size for a larger one."
  }
}

variable "image" {
  description = "Image of Bandicoot with its tag or digest; null makes only what it stands on (the first apply)"
  type        = string
  default     = null
}

variable "code_location_home" {
  description = "Where Dagster's code location runs: `vm`, beside the daemon, or `cloud_run`, apart from it"
  type        = string
  validation {
    condition     = contains(["vm", "cloud_run"], var.code_location_home)
    error_message = "code_location_home is vm or cloud_run."
  }
}

variable "cache_home" {
  description = "Where Redis runs: `none`, `vm`, beside the daemon, or `memorystore`"
  type        = string
  validation {
    condition     = contains(["none", "vm", "memorystore"], var.cache_home)
    error_message = "cache_home is none, vm or memorystore."
  }
  validation {
    condition     = var.cache_home != "memorystore" || var.code_location_home == "cloud_run"
    error_message = "Memorystore asks for TLS with a certificate that only Cloud Run is given: set code_location_home = \"cloud_run\"."
  }
}

variable "own_database" {
  description = "Whether to make a Cloud SQL instance; otherwise `shared_database` names one that exists"
  type        = bool
  default     = false
}

variable "shared_database" {
  description = "Existing Cloud SQL instance (PostgreSQL 15 to 18, private IP) that Bandicoot gets a database in"
  type        = string
  default     = null
  validation {
    condition     = var.own_database != (var.shared_database != null)
    error_message = "Set either own_database = true or shared_database to the name of an instance."
  }
}

variable "shared_database_connections" {
  description = "What `SHOW max_connections` prints in the shared instance, for the alert at 90 % of it"
  type        = number
  default     = null
  validation {
    condition     = var.own_database || var.shared_database_connections != null
    error_message = "Say in shared_database_connections what `SHOW max_connections` prints in the shared instance."
  }
}

variable "shared_network" {
  description = "Self link of the network the shared instance is reached in; Bandicoot then lives in it. Null makes one"
  type        = string
  default     = null
  validation {
    condition     = var.own_database || var.shared_network != null
    error_message = "A shared database is reached by its private IP: name its network in shared_network."
  }
}

variable "database_is_regional" {
  description = "Whether the own instance has a standby in another zone (twice the price)"
  type        = bool
  default     = false
}

variable "subnet_range" {
  description = "Addresses of Bandicoot's subnet: /24, free in its network"
  type        = string
  default     = "10.41.0.0/24"
}

variable "has_nat" {
  description = "Whether processes reach the internet, as alarms to a webhook or mail server need"
  type        = bool
}

variable "has_alarm_webhook" {
  description = "Whether the secret bandicoot-alarm-webhook-url holds a webhook's address"
  type        = bool
}

variable "has_alarm_mail" {
  description = "Whether the secret bandicoot-alarm-smtp-url holds a mail server; `settings` says from and to whom"
  type        = bool
  default     = false
  validation {
    condition     = !var.has_alarm_mail || length(setsubtract(["BANDICOOT_ALARM_EMAIL_FROM", "BANDICOOT_ALARM_EMAIL_TO"], keys(var.settings))) == 0
    error_message = "A mail has a sender and receivers: put BANDICOOT_ALARM_EMAIL_FROM and BANDICOOT_ALARM_EMAIL_TO into settings."
  }
}

variable "api_is_public" {
  description = "Whether the service is reached from the internet, as phones with the call sheet need; it asks for its own keys"
  type        = bool
  default     = false
}

variable "api_max_instances" {
  description = "Most instances of the service"
  type        = number
  default     = 10
}

variable "districts" {
  description = "Districts of the programme; empty takes any named one"
  type        = list(string)
  default     = []
}

variable "experiment" {
  description = "Name of the running experiment"
  type        = string
  default     = "programme"
}

variable "call_budget" {
  description = "Calls on the list of a day"
  type        = number
  default     = 100
}

variable "lake_soft_delete_days" {
  description = "Days for which deleted files of the lake can be brought back; 0 lets what is forgotten go at once"
  type        = number
  default     = 7
  validation {
    condition     = var.lake_soft_delete_days == 0 || (var.lake_soft_delete_days >= 7 && var.lake_soft_delete_days <= 90)
    error_message = "Cloud Storage keeps deleted objects for 7 to 90 days, or not at all (0)."
  }
}

variable "backup_retention_days" {
  description = "Days for which no backup can be deleted or replaced, by nobody"
  type        = number
  default     = 30
}

variable "is_protected" {
  description = "Whether database, disk, services and buckets refuse to be destroyed"
  type        = bool
  default     = true
}

variable "operators" {
  description = "Who reaches the webserver through IAP, as IAM members (user:... or group:...)"
  type        = list(string)
  default     = []
}

variable "alert_emails" {
  description = "Who is mailed when an alert policy or a budget fires"
  type        = list(string)
}

variable "billing_account" {
  description = "Billing account of the project (0123AB-4567CD-89EF01), for the budget; null makes none"
  type        = string
  default     = null
}

variable "monthly_budget_usd" {
  description = "Monthly budget in US dollars, with alerts at 50, 80 and 100 %; null takes that of what is made (sizes.json)"
  type        = number
  default     = null
}

variable "budget_currency" {
  description = "Currency of the billing account, which a budget has to have"
  type        = string
  default     = "USD"
}

variable "currency_per_usd" {
  description = "What a US dollar is in that currency"
  type        = number
  default     = 1
}

variable "github_repository" {
  description = "OWNER/NAME whose workflows deploy by Workload Identity Federation; null lets none"
  type        = string
  default     = null
}

variable "registry_readers" {
  description = "Who else pulls images, as IAM members: service agents of other projects that deploy them"
  type        = list(string)
  default     = []
}

variable "settings" {
  description = "Further settings of the pipeline and the service, by their names in the README: { BANDICOOT_CONTROL_SHARE = \"0.2\" }"
  type        = map(string)
  default     = {}
  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^BANDICOOT_[A-Z0-9_]+$", name))])
    error_message = "Settings are named as in the README's table, BANDICOOT_...."
  }
  validation {
    condition = alltrue([
      for name in keys(var.settings) : !can(regex("(_URL|SECRET|PASSWORD|WEBHOOK|TOKEN|_KEY)$", name)) || contains(local.public_addresses, name)
    ])
    error_message = "A secret would be in Terraform's state and in the open: those that Bandicoot reads are in Secret Manager (docs/deploy.md, step 6)."
  }
  validation {
    condition     = length(setintersection(keys(var.settings), local.settings_of_terraform)) == 0
    error_message = "Terraform sets ${join(", ", setintersection(keys(var.settings), local.settings_of_terraform))} itself, from variables of its own or from what it makes."
  }
  validation {
    condition     = alltrue([for value in values(var.settings) : !can(regex("\n", value))])
    error_message = "A setting is one line."
  }
}

variable "has_gpu_job" {
  description = "Whether there is a third job, with one NVIDIA L4, for simulations (paid only while it runs)"
  type        = bool
  default     = false
}

variable "event_senders" {
  description = "Who may publish caregiver events, as IAM members"
  type        = list(string)
  default     = []
}

variable "run_launcher" {
  description = "What starts Dagster's runs as executions of Cloud Run jobs; it has to be in the image. `config` is JSON"
  type = object({
    module = string
    class  = string
    config = optional(string, "{}")
  })
  default = {
    module = "bandicoot_dagster.cloud_run"
    class  = "CloudRunLauncher"
  }
}
