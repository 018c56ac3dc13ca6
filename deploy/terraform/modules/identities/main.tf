# One service account for each component; none has a key, none has a role on the whole project but to write logs and
# metrics. What else each may do stands where the thing is: secrets, lake, events, runs. Who deploys has a few more.
variable "project" { type = string }
variable "github_repository" { type = string }
variable "registry" { type = string }
variable "region" { type = string }

locals {
  components = {
    api     = "Bandicoot: the service"
    code    = "Bandicoot: Dagster's code location"
    runs    = "Bandicoot: runs of Dagster's jobs"
    control = "Bandicoot: Dagster's daemon and webserver"
    migrate = "Bandicoot: migrations of the published schema"
  }
}

resource "google_service_account" "this" {
  for_each     = local.components
  project      = var.project
  account_id   = "bandicoot-${each.key}"
  display_name = each.value
}

# The machine ships its own logs and metrics; Cloud Run does that for the others.
resource "google_project_iam_member" "control" {
  for_each = toset(["roles/logging.logWriter", "roles/monitoring.metricWriter"])
  project  = var.project
  role     = each.value
  member   = "serviceAccount:${google_service_account.this["control"].email}"
}

# Workflows of one repository deploy without a key: GitHub says who they are, and only its main branch counts.
resource "google_iam_workload_identity_pool" "github" {
  count                     = var.github_repository == null ? 0 : 1
  project                   = var.project
  workload_identity_pool_id = "bandicoot-github"
  display_name              = "Workflows of Bandicoot"
}

resource "google_iam_workload_identity_pool_provider" "github" {
  #checkov:skip=CKV_GCP_125:repository and branch are asked for, which hold in every environment of GitHub; the subject, which the rule wants, differs with it
  count                              = var.github_repository == null ? 0 : 1
  project                            = var.project
  workload_identity_pool_id          = google_iam_workload_identity_pool.github[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "github"
  attribute_condition                = "assertion.repository == '${var.github_repository}' && assertion.ref == 'refs/heads/main'"
  attribute_mapping = {
    "google.subject"       = "assertion.sub"
    "attribute.repository" = "assertion.repository"
  }
  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

resource "google_service_account" "deployer" {
  count        = var.github_repository == null ? 0 : 1
  project      = var.project
  account_id   = "bandicoot-deployer"
  display_name = "Bandicoot: deploying from GitHub"
}

resource "google_service_account_iam_member" "deployer" {
  count              = var.github_repository == null ? 0 : 1
  service_account_id = google_service_account.deployer[0].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.github[0].name}/attribute.repository/${var.github_repository}"
}

resource "google_artifact_registry_repository_iam_member" "deployer" {
  count      = var.github_repository == null ? 0 : 1
  project    = var.project
  location   = var.region
  repository = var.registry
  role       = "roles/artifactregistry.writer"
  member     = "serviceAccount:${google_service_account.deployer[0].email}"
}

# What can be asked of a project only: which jobs there are, what the triggers measure, a copy of the database before a
# migration, and what is known against an image.
resource "google_project_iam_member" "deployer" {
  for_each = var.github_repository == null ? toset([]) : toset([
    "roles/cloudsql.editor", "roles/monitoring.viewer", "roles/ondemandscanning.admin", "roles/run.viewer",
  ])
  project = var.project
  role    = each.value
  member  = "serviceAccount:${google_service_account.deployer[0].email}"
}

# A new revision runs as the component's account, so the deployer may act as these, and as no other.
resource "google_service_account_iam_member" "deployer_acts_as" {
  for_each           = var.github_repository == null ? toset([]) : toset(["api", "code", "runs", "migrate"])
  service_account_id = google_service_account.this[each.value].name
  role               = "roles/iam.serviceAccountUser"
  member             = "serviceAccount:${google_service_account.deployer[0].email}"
}

output "emails" { value = { for name, account in google_service_account.this : name => account.email } }
output "deployer" { value = one(google_service_account.deployer[*].email) }
output "github_provider" { value = one(google_iam_workload_identity_pool_provider.github[*].name) }
