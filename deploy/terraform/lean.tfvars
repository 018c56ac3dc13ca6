# About 40 US dollars a month: the programme's own Cloud SQL instance is shared, and one machine holds daemon, webserver,
# code location and Redis. Nothing is lost when that machine dies; the night starts when it is back.
caregivers            = 200000
code_location_home    = "vm"
cache_home            = "vm"
own_database          = false
database_is_regional  = false
has_nat               = true
has_alarm_webhook     = true
api_is_public         = true
api_max_instances     = 10
is_protected          = true
backup_retention_days = 30
