"""Apps, the images that developers push for them, and the certificates that authorise a push."""
