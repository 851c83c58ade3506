#!/bin/sh
# Writes the users' file before the server starts. Passwords go in as their hashes; masterauth has to be plain.
set -eu
hash() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

umask 077
cat >/auth/users.acl <<ACL
user default off
user $SERVICE_USER on #$(hash "$SERVICE_PASSWORD") ~temps:* ~{temps:* +@all -@admin -@dangerous +info
user keeper on #$(hash "$KEEPER_PASSWORD") -@all +ping +info +cluster +psync +replconf
ACL
cat >/auth/auth.conf <<CONF
aclfile /auth/users.acl
masteruser keeper
masterauth "$(printf %s "$KEEPER_PASSWORD" | sed 's/[\\"]/\\&/g')"
CONF
