"""Child processes that parse and plan uploads, with limits of time, memory and output."""
