"""What the kernel tells and limits: control groups, memory, signals, ends of processes."""
