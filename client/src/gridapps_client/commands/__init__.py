"""The commands of `gridapps`, one module for each noun."""
