"""The certificate authority of the instance, client certificates, registry tokens, and bundles of nodes."""
