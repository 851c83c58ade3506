#!/bin/sh
# Ready: every slot has a master, this node reaches most masters, and it has slots or is a replica whose link to its master
# is up. A shard that fails later makes no other pod unready. The keeper needs no ready pod, so pods do not wait for each
# other.
# shellcheck disable=SC2086 # flags are words
redis() { redis-cli $REDIS_FLAGS "$@"; }

info=$(redis CLUSTER INFO | tr -d '\r')
for wanted in cluster_state:ok cluster_slots_assigned:16384; do
  echo "$info" | grep -qx $wanted || exit 1
done
case $(redis CLUSTER NODES | grep myself) in
  *slave*) redis INFO replication | grep -q '^master_link_status:up' ;;
  *' connected '[0-9]*) ;;
  *) exit 1 ;;
esac
