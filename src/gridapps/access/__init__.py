"""Users, developers, access tags, permissions, and the base of errors."""
