"""The sandbox runtime: namespaces, cgroups, nftables and seccomp on one Linux machine."""
