"""The engine for a gateway that runs as an ordinary user: pasta, bubblewrap, seccomp, nft.

`rootless.Rootless` is the engine. The code that it shares with the sandbox is in `host`,
`isolation`, `disks` and `logs`. An app's network namespace belongs to the gateway's user, who loads
the packet filter into it before the app starts; the app has no capability there. On the machine,
every app has the gateway's own uid: only their namespaces isolate them from each other.
"""
