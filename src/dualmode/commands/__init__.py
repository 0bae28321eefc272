"""The commands of ``dualmode``, a file each: thin, and slow imports wait until a command runs."""
