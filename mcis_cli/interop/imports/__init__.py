"""Imports of files of other tools into the store."""
