"""What rows hold, as frozen records with their states. No queries, no rules but of states."""
