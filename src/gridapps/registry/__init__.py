"""Apps, releases, shares, and the certificates that authorise pushes: rows and rules."""
