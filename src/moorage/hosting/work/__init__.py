"""What carries out jobs: worker, workflow and switch; and cancellation and rollback."""
