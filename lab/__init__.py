"""The lab: one Linux machine that looks like two sites and a cloud. See lab/README.md.

Standard library only: it must start on a fresh Debian before anything is installed.
"""
