"""What gateways on one database agree on: who does which duty, who keeps the apps, who runs."""
