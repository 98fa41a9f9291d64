"""An app in the cluster: how it starts, what it writes and uses, and what it keeps."""
