"""What engines on this machine share: processes, control groups, sockets, directories."""
