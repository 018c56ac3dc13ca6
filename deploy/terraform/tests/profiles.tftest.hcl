# What each variable file makes, without Google: `terraform test`.
mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
  mock_resource "google_cloud_run_v2_service" {
    defaults = { uri = "https://bandicoot-xyz.a.run.app" }
  }
  mock_resource "google_service_account" {
    defaults = {
      name  = "projects/some-project/serviceAccounts/some@some-project.iam.gserviceaccount.com"
      email = "some@some-project.iam.gserviceaccount.com"
    }
  }
}

variables {
  project            = "some-project"
  caregivers         = 200000
  image              = "asia-south1-docker.pkg.dev/some-project/bandicoot/bandicoot:1.0.0"
  alert_emails       = ["night@example.org"]
  operators          = ["user:operator@example.org"]
  billing_account    = "0123AB-4567CD-89EF01"
  code_location_home = "cloud_run"
  cache_home         = "memorystore"
  own_database       = true
  has_nat            = true
  has_alarm_webhook  = true
}

run "an_own_database_is_used" {
  command = plan
  assert {
    condition     = module.database.instance == "bandicoot"
    error_message = "the own instance is not used"
  }
}

run "without_an_image_only_what_it_stands_on_is_made" {
  command = plan
  variables {
    image = null
  }
  assert {
    condition     = length(module.service) == 0 && length(module.runs) == 0 && length(module.control_plane) == 0 && length(module.monitoring) == 0
    error_message = "something would run before there is an image"
  }
  assert {
    condition     = length(output.secrets) == 9
    error_message = "the secrets are not there before the image"
  }
}

run "a_shared_database_needs_its_network" {
  command = plan
  variables {
    own_database                = false
    shared_database             = "programme"
    shared_database_connections = 100
    code_location_home          = "vm"
    cache_home                  = "vm"
  }
  expect_failures = [var.shared_network]
}

run "a_shared_database_is_watched_by_what_it_can_hold" {
  command = plan
  variables {
    own_database       = false
    shared_database    = "programme"
    shared_network     = "projects/some-project/global/networks/programme"
    code_location_home = "vm"
    cache_home         = "vm"
  }
  expect_failures = [var.shared_database_connections]
}

run "a_setting_is_no_secret" {
  command = plan
  variables {
    settings = { BANDICOOT_ALARM_SMTP_URL = "smtp://user:password@mail.example.org" }
  }
  expect_failures = [var.settings]
}

run "a_setting_does_not_take_the_place_of_a_variable" {
  command = plan
  variables {
    settings = { BANDICOOT_BUDGET = "200" }
  }
  expect_failures = [var.settings]
}

run "alarms_by_mail_need_a_sender_and_receivers" {
  command = plan
  variables {
    has_alarm_mail = true
    settings       = { BANDICOOT_ALARM_EMAIL_FROM = "bandicoot@example.org" }
  }
  expect_failures = [var.has_alarm_mail]
}

run "a_budget_is_that_of_what_is_made" {
  command = plan
  assert {
    condition     = local.budget_usd == 34 + 24 + 42 + 47 + 9
    error_message = "the budget is not the sum of what is made"
  }
}

run "a_shared_database_is_only_given_a_database" {
  command = plan
  variables {
    own_database                = false
    shared_database             = "programme"
    shared_database_connections = 100
    shared_network              = "projects/some-project/global/networks/programme"
    code_location_home          = "vm"
    cache_home                  = "vm"
  }
  assert {
    condition     = module.database.instance == "programme"
    error_message = "the shared instance is not used"
  }
  assert {
    condition     = output.redis == "10.41.0.10:6379"
    error_message = "Redis is not beside the daemon"
  }
}

run "memorystore_needs_the_code_location_on_cloud_run" {
  command = plan
  variables {
    code_location_home = "vm"
  }
  expect_failures = [var.cache_home]
}

run "either_an_own_or_a_shared_database" {
  command = plan
  variables {
    shared_database = "programme"
    shared_network  = "projects/some-project/global/networks/programme"
  }
  expect_failures = [var.shared_database]
}

run "a_programme_larger_than_any_size_is_refused" {
  command = plan
  variables {
    caregivers = 1000001
  }
  expect_failures = [var.caregivers]
}

run "a_gpu_job_is_a_job_more" {
  command = plan
  variables {
    has_gpu_job = true
  }
  assert {
    condition     = module.runs[0].jobs["gpu"] == "bandicoot-run-gpu"
    error_message = "there is no job with a GPU"
  }
}

run "sizes_between_two_are_the_larger" {
  command = plan
  variables {
    caregivers = 500001
  }
  assert {
    condition     = local.scale == 1000000
    error_message = "500,001 caregivers do not get the size of a million"
  }
}

run "everything_is_known_once_it_is_made" {
  command = apply
  variables {
    is_protected = false
  }
  assert {
    condition     = output.service_url == "https://bandicoot-xyz.a.run.app" && output.migrate_job == "bandicoot-migrate"
    error_message = "the outputs do not name the service and the job of migrations"
  }
  assert {
    condition = yamldecode(one([
      for file in yamldecode(module.control_plane[0].cloud_config).write_files : file.content
      if file.path == "/etc/bandicoot/workspace.yaml"
    ])).load_from[0].grpc_server == { location_name = "bandicoot", host = "bandicoot-xyz.a.run.app", port = 443, ssl = true }
    error_message = "daemon and webserver are not told where the code location is"
  }
}
