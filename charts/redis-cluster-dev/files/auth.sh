#!/bin/sh
# Writes the server's users before it starts: those of the pipeline, and the keeper, who forms the cluster and replicates.
# Passwords go in as their hashes; masterauth has to be plain.
set -eu
keeper=$(cat /passwords/keeper)

umask 077
# Nobody can be the default user, for it is off. It may do everything all the same: a Redis that reads its append-only
# file does so as the default user, and leaves out whole transactions, a script's writes among them, that one may not do
# (redis/redis#14541).
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
