"""A job carried out: the worker, the workflow and the switch, and how it ends early."""
