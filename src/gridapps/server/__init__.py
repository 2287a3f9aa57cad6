"""`gridapps-server`: the process tree of an instance, its checks, and the administrator's commands."""
