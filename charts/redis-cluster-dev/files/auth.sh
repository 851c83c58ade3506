#!/bin/sh
# Writes the server's users before it starts: those of the pipeline, and the keeper, which forms the cluster and replicates.
# Passwords are written as hashes; masterauth must be plain text.
set -eu
keeper=$(cat /passwords/keeper)

umask 077
# The default user is off, so no client can use it, and has all permissions: Redis loads its append-only file as the
# default user, and drops each transaction, a script's writes included, that this user may not run (redis/redis#14541).
{
  echo "user default off ~* &* +@all"
  echo "user keeper on #$(printf %s "$keeper" | sha256sum | cut -d ' ' -f 1) -@all +ping +info +cluster +psync +replconf"
  sh /config/users.sh /passwords
} >/auth/users.acl
cat >/auth/auth.conf <<CONF
aclfile /auth/users.acl
masteruser keeper
masterauth "$(printf %s "$keeper" | sed 's/[\\"]/\\&/g')"
CONF
