"""From a host name to an app's socket: the route table, the proxy in front, and its pages."""
