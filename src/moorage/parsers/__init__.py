"""Child processes in which uploads are read and planned, with limits of time, memory and output."""
