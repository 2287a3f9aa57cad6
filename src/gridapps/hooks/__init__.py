"""Hooks: events of the instance, POSTed to addresses that users name. Nothing here knows what a run is."""
