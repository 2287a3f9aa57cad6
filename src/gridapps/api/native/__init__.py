"""The native API below /api/v3: a module of calls for each noun, and `shapes` of their answers."""
