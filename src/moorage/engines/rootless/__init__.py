"""Apps on this machine, run by a gateway that is an ordinary user: pasta, bubblewrap, seccomp, nft.

`rootless.Rootless` is the engine. What it has in common with the sandbox lies in `host`,
`isolation`, `disks` and `logs`. An app's network namespace belongs to the gateway's user, who loads
the packet filter into it before the app begins; the app has no capability there. Every app has the
gateway's own uid on the machine: what keeps them apart is their namespaces alone.
"""
