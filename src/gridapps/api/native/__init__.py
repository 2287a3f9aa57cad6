"""The native API below /api/v3: one module of calls per noun, `shapes` for what they answer."""
