"""Many runs under one command: what there is to do, how long it takes, and who does it."""
