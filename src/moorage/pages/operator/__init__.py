"""The operator's pages: money, machine and apps, by what the operator's commands do."""
