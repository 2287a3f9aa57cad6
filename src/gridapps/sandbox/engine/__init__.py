"""The container engine's API: HTTP in `client`, typed answers, and calls that raise the protocol's errors.

Every call has a time limit. A failure is classified by the status of the answer and by the state of engine,
disk and registry, never by its text: authors of images can influence the text.
"""
