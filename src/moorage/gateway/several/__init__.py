"""Several gateways on one database: who keeps the apps, and who else runs."""
