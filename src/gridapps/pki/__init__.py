"""The certificate authority of the instance, tokens of its registries, and the membership of its nodes."""
