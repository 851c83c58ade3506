#!/bin/sh
# Forms the cluster and repairs it. It runs in every pod, beside the server, and changes that server only:
#   meet    sends CLUSTER MEET to the current addresses of the peers: a restarted pod has another address
#   settle  gives a server without slots its share, or makes it a replica of the master that has this share
#   forget  removes servers that failed and have no slots
# Each step is idempotent, and all pods may take it at the same time.
set -u
trap 'exit 0' TERM

port=6379
# PEERS: the names of all pods, first one of each shard. Those pods become masters.
nodes=0
for name in $PEERS; do
  [ "$name" = "$POD_NAME" ] && ordinal=$nodes
  nodes=$((nodes + 1))
done
share=$((ordinal % SHARDS))
first=$((16384 * share / SHARDS))
last=$((16384 * (share + 1) / SHARDS - 1))
lost=0 # consecutive rounds in which the holder of the share has failed

log() { echo "$(date -u +%H:%M:%S) $*"; }

# redis HOST COMMAND...; REDISCLI_AUTH holds the password, REDIS_FLAGS the user and TLS.
redis() {
  host=$1
  shift
  # shellcheck disable=SC2086 # flags are words
  timeout 5 redis-cli $REDIS_FLAGS -h "$host" -p "$port" "$@" 2>/dev/null
}

# address NAME: its current address in DNS; empty if there is none.
address() { getent hosts "$1" | while read -r found _; do echo "$found"; break; done; }

# A line of CLUSTER NODES is: id address flags master ping pong epoch link [slots...]

# holders: the state of the server that has my first slot, as each peer reports it: "live ID" or "failed ID".
holders() {
  for peer in $PEERS; do
    redis "$peer.$DOMAIN" CLUSTER NODES | while read -r id address flags _ _ _ _ _ slots; do
      for range in $slots; do
        case $range in \[*) continue ;; esac # a slot that is migrated
        if [ "${range%-*}" -le $first ] && [ "${range#*-}" -ge $first ]; then
          case $flags,$address in
            *fail* | *,"$POD_NAME.$DOMAIN") echo "failed $id" ;; # or it has my name: my predecessor
            *) echo "live $id" ;;
          esac
        fi
      done
    done
  done
}

meet() {
  known=$(redis 127.0.0.1 CLUSTER NODES) || return 1
  met=0
  for peer in $PEERS; do
    ip=$(address "$peer.$DOMAIN")
    if [ "$peer" = "$POD_NAME" ]; then
      met=$((met + 1))
    elif [ -n "$ip" ]; then
      line=$(echo "$known" | grep -F " $ip:$port@" | grep -v -e noaddr -e handshake)
      case $line in
        *' connected'*) met=$((met + 1)) ;;
        *) redis 127.0.0.1 CLUSTER MEET "$ip" "$port" >/dev/null && log "meet $peer at $ip" ;;
      esac
    fi
  done
  [ $met -eq $nodes ]
}

settle() {
  view=$(redis 127.0.0.1 CLUSTER NODES)
  # shellcheck disable=SC2046 # fields are words
  set -- $(echo "$view" | grep myself)
  case ${3:-none} in
    none) return ;;
    *slave*) busy=$(echo "$view" | grep "^$4 " | grep -v -e fail -e noaddr) ;; # its master is live
    *) busy=${9:-} ;; # it has slots
  esac
  [ -n "$busy" ] && { lost=0; return; }

  reports=$(holders)
  live=$(echo "$reports" | sed -n 's/^live //p' | head -n 1)
  if [ -n "$live" ]; then
    lost=0
    # A second REPLICATE of the same master would make the replica too old to be promoted.
    [ "$live" = "$4" ] && return
    redis 127.0.0.1 CLUSTER REPLICATE "$live" | grep -q OK && log "replicate $live"
    return
  fi

  # A failed holder may restart, or a replica may be promoted, so its share is free only after a delay.
  # A replica has the data, so it goes first; it detects later than I do that its master has failed.
  case $3$reports in *slave* | *failed*)
    lost=$((lost + 1))
    case $3 in *slave*) rounds=15 ;; *) rounds=$((15 * nodes / SHARDS)) ;; esac
    [ $lost -lt $rounds ] && return ;;
  esac
  case $3 in
    *slave*) promote ;;
    *) [ "$ordinal" -lt "$SHARDS" ] && take ;;
  esac
}

# promote: makes the replica a master without an election, for which too few masters are left.
promote() {
  if redis 127.0.0.1 CLUSTER FAILOVER TAKEOVER | grep -q OK; then
    log "promoted: the master has failed"
  else
    redis 127.0.0.1 CLUSTER RESET >/dev/null && log "reset: the master is unknown"
  fi
}

take() {
  for id in $(echo "$reports" | sed -n 's/^failed //p' | sort -u); do
    log "the server $id of the slots $first-$last is gone, and their data is lost"
    redis 127.0.0.1 CLUSTER FORGET "$id" >/dev/null
  done
  redis 127.0.0.1 CLUSTER ADDSLOTSRANGE $first $last | grep -q OK \
    && redis 127.0.0.1 CLUSTER BUMPEPOCH >/dev/null && log "take the slots $first-$last"
}

forget() {
  redis 127.0.0.1 CLUSTER NODES | while read -r id _ flags _ _ _ _ _ slots; do
    case ,$flags, in
      *,fail,*) [ -z "$slots" ] && redis 127.0.0.1 CLUSTER FORGET "$id" | grep -q OK && log "forget $id" ;;
    esac
  done
}

log "keeper of ${POD_NAME}: share $((share + 1)) of $SHARDS, $nodes pods"
while :; do
  if meet; then
    settle
    forget
  fi
  sleep 1 &
  wait $!
done
