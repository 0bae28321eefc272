"""The commands of ``dualmode``, one file each. Slow imports are deferred until a command runs."""
