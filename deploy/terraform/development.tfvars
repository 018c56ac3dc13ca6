# A programme to try things on: everything small and beside the daemon, closed to the internet, and not protected.
caregivers           = 200000
code_location_home   = "vm"
cache_home           = "none"
own_database         = false
database_is_regional = false
has_nat              = false
has_alarm_webhook    = false
api_is_public        = false
api_max_instances    = 2
is_protected         = false
# A retention that nobody can shorten would outlive what is tried here.
backup_retention_days = 1
