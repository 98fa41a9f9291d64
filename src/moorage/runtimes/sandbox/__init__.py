"""Apps on this machine, each in namespaces of its own: bubblewrap, seccomp, nftables, cgroups.

`sandbox.Sandbox` is the runtime. The modules beside it each own one thing an app is given (its
disk, network, control group, door) and build it from data made by pure functions.
"""
