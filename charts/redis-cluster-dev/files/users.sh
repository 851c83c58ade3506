#!/bin/sh
# Writes the users' file before the server starts. Passwords go in as their hashes; masterauth has to be plain.
set -eu
hash() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

umask 077
# Nobody can be the default user, for it is off. It may do everything all the same: a Redis that reads its append-only
# file does so as the default user, and leaves out whole transactions, a script's writes among them, that one may not do
# (redis/redis#14541).
cat >/auth/users.acl <<ACL
user default off ~* &* +@all
user $SERVICE_USER on #$(hash "$SERVICE_PASSWORD") ~temps:* ~{temps:* +@all -@admin -@dangerous +info
user keeper on #$(hash "$KEEPER_PASSWORD") -@all +ping +info +cluster +psync +replconf
ACL
cat >/auth/auth.conf <<CONF
aclfile /auth/users.acl
masteruser keeper
masterauth "$(printf %s "$KEEPER_PASSWORD" | sed 's/[\\"]/\\&/g')"
CONF
