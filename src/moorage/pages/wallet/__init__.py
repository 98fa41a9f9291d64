"""A wallet's pages. They know the gateway by its API alone, called in this process."""
