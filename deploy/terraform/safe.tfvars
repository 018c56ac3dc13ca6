# Some 140 US dollars a month (docs/costs.md): a Cloud SQL instance of its own, Redis as a service, the code location apart
# from the machine of the daemon.
caregivers            = 200000
code_location_home    = "cloud_run"
cache_home            = "memorystore"
own_database          = true
database_is_regional  = false
has_nat               = true
has_alarm_webhook     = true
api_is_public         = true
api_max_instances     = 10
is_protected          = true
backup_retention_days = 30
