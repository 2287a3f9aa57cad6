"""Django's administration: every class of it, registered once."""
