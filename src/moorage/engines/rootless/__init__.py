"""Apps on this machine, run by a gateway that is an ordinary user: pasta, bubblewrap, seccomp, nft.

`rootless.Rootless` is the runtime. What both modes are made of lies above them (`local`, `place`,
`record`, `configuration`, `trial`); from the sandbox of the root mode this one takes what is pure:
the view an app has, the system call filter, the choice of a port. An app's network namespace
belongs to the gateway's user, who loads the packet filter into it before the app begins; the app
has no capability there. Every app has the gateway's own uid on the machine: what keeps them apart
is their namespaces alone.
"""
