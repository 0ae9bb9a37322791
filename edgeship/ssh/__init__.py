"""A board behind sshd: the user's ssh config, keys and known hosts, and the connection."""
