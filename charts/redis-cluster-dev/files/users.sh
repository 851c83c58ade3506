#!/bin/sh
# users.sh FOLDER [PIPELINE]: prints the users of users.acl with their passwords, for Redis' `aclfile`. A user's password
# is the first line of the file of its name in FOLDER. A user without a file stays off. The output has hashes only.
# With PIPELINE the users are named hourglass-PIPELINE-producer and so on, and have access to its keys only.
set -eu

pipeline=${2:-temps}
case $pipeline in
*[!A-Za-z0-9._-]*) echo "users.sh: $pipeline cannot be a pipeline's name" >&2 && exit 2 ;;
temps) names=hourglass ;;
*) names=hourglass-$pipeline ;;
esac

sed "s/^user hourglass-/user $names-/; s/\([~{]\)temps:/\1$pipeline:/g" "$(dirname "$0")/users.acl" |
  while read -r user name off rules; do
    state=$off
    if [ -f "$1/$name" ]; then
      state="on #$(head -n 1 "$1/$name" | tr -d '\n' | sha256sum | cut -d ' ' -f 1)"
    fi
    echo "$user $name $state $rules"
  done
