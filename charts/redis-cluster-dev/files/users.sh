#!/bin/sh
# users.sh FOLDER: prints the users of users.acl with their passwords, for Redis' `aclfile`. A user's password is the
# first line of the file of its name in FOLDER; whoever has none there stays off. Passwords go out as their hashes.
set -eu

while read -r user name off rules; do
  state=$off
  if [ -f "$1/$name" ]; then
    state="on #$(head -n 1 "$1/$name" | tr -d '\n' | sha256sum | cut -d ' ' -f 1)"
  fi
  echo "$user $name $state $rules"
done <"$(dirname "$0")/users.acl"
