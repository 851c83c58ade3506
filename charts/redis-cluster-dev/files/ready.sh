#!/bin/sh
# Ready is: every slot has its master, this node sees most masters, and it has slots itself or is a replica in step with
# its master. A shard that fails later makes no other pod unready. The keeper needs no ready pod, so that nobody waits
# for anybody.
# shellcheck disable=SC2086 # flags are words
ask() { redis-cli $REDIS_FLAGS "$@"; }

info=$(ask CLUSTER INFO | tr -d '\r')
for wanted in cluster_state:ok cluster_slots_assigned:16384; do
  echo "$info" | grep -qx $wanted || exit 1
done
case $(ask CLUSTER NODES | grep myself) in
  *slave*) ask INFO replication | grep -q '^master_link_status:up' ;;
  *' connected '[0-9]*) ;;
  *) exit 1 ;;
esac
