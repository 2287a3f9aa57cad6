"""Where exports and outputs lie, for every node of an instance. Plain Python, like the sandbox."""
