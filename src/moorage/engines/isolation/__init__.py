"""What an app may see and do: namespaces, system calls, network, written as argument lists."""
