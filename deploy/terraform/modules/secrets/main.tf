# Names of secrets and who may read each. Their values are put in by hand (docs/deploy.md): none is in the state.
variable "project" { type = string }
variable "region" { type = string }
# The name of each secret, and the components that read it: { "bandicoot-database-url" = ["runs"] }.
variable "readers" { type = map(list(string)) }
# E-mail address of each component's service account.
variable "identities" { type = map(string) }

resource "google_secret_manager_secret" "this" {
  for_each  = var.readers
  project   = var.project
  secret_id = each.key

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each = merge([
    for name, components in var.readers : { for each in components : "${name}/${each}" => { name = name, component = each } }
  ]...)
  project   = var.project
  secret_id = google_secret_manager_secret.this[each.value.name].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${var.identities[each.value.component]}"
}

output "names" { value = { for name, secret in google_secret_manager_secret.this : name => secret.secret_id } }
