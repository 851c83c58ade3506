#!/bin/sh
# Ready is: this node sees the cluster whole, and has slots or is a replica in step with its master. The keeper needs
# no ready pod, so that nobody waits for anybody.
# shellcheck disable=SC2086 # flags are words
ask() { redis-cli $REDIS_FLAGS "$@"; }

ask CLUSTER INFO | grep -q '^cluster_state:ok' || exit 1
case $(ask CLUSTER NODES | grep myself) in
  *slave*) ask INFO replication | grep -q '^master_link_status:up' ;;
  *' connected '[0-9]*) ;;
  *) exit 1 ;;
esac
