"""What a gateway tells its operator: readiness, metrics, its log; and its daily upkeep."""
