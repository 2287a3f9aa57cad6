"""The storage of exports and outputs, which all nodes of an instance share. It does not use Django."""
