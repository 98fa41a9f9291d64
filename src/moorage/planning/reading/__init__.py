"""How a plan reads an upload: its folders, and the small languages of its files."""
