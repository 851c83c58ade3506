#!/bin/sh
# Forms the cluster and keeps it whole. It runs in every pod, beside the server, and looks after that server only:
#   meet    the peers, wherever their names lead now: a pod comes back under another address
#   settle  a server without slots takes its share, or follows whoever has it
#   forget  servers that failed and have no slots
# Every step can be taken any number of times, and by all pods at once.
set -u
trap 'exit 0' TERM

port=6379
ordinal=${POD_NAME##*-}
share=$((ordinal % SHARDS))
first=$((16384 * share / SHARDS))
last=$((16384 * (share + 1) / SHARDS - 1))
lost=0 # how many times in a row the share was seen with a failed server

say() { echo "$(date -u +%H:%M:%S) $*"; }

# redis HOST COMMAND...; REDISCLI_AUTH holds the password, REDIS_FLAGS the user and TLS.
redis() {
  host=$1
  shift
  # shellcheck disable=SC2086 # flags are words
  timeout 5 redis-cli $REDIS_FLAGS -h "$host" -p "$port" "$@" 2>/dev/null
}

# address NAME: the one that DNS gives now; empty if none.
address() { getent hosts "$1" | while read -r found _; do echo "$found"; break; done; }

peer() { echo "${POD_NAME%-*}-$1.$DOMAIN"; }

# A line of CLUSTER NODES is: id address flags master ping pong epoch link [slots...]

# holders: what every peer says of the server that has my first slot: "live ID" or "failed ID".
holders() {
  i=0
  while [ $i -lt "$NODES" ]; do
    redis "$(peer $i)" CLUSTER NODES | while read -r id address flags _ _ _ _ _ slots; do
      for range in $slots; do
        case $range in \[*) continue ;; esac # a slot on its way
        if [ "${range%-*}" -le $first ] && [ "${range#*-}" -ge $first ]; then
          case $flags,$address in
            *fail* | *,"$POD_NAME.$DOMAIN") echo "failed $id" ;; # or under my name: whom I come after
            *) echo "live $id" ;;
          esac
        fi
      done
    done
    i=$((i + 1))
  done
}

meet() {
  known=$(redis 127.0.0.1 CLUSTER NODES) || return 1
  met=0
  i=0
  while [ $i -lt "$NODES" ]; do
    ip=$(address "$(peer $i)")
    if [ $i -eq "$ordinal" ]; then
      met=$((met + 1))
    elif [ -n "$ip" ]; then
      line=$(echo "$known" | grep -F " $ip:$port@" | grep -v -e noaddr -e handshake)
      case $line in
        *' connected'*) met=$((met + 1)) ;;
        *) redis 127.0.0.1 CLUSTER MEET "$ip" "$port" >/dev/null && say "meet $(peer $i) at $ip" ;;
      esac
    fi
    i=$((i + 1))
  done
  [ $met -eq "$NODES" ]
}

settle() {
  view=$(redis 127.0.0.1 CLUSTER NODES)
  # shellcheck disable=SC2046 # fields are words
  set -- $(echo "$view" | grep myself)
  case ${3:-nobody} in
    nobody) return ;;
    *slave*) busy=$(echo "$view" | grep "^$4 " | grep -v -e fail -e noaddr) ;; # its master is well
    *) busy=${9:-} ;; # it has slots
  esac
  [ -n "$busy" ] && { lost=0; return; }

  told=$(holders)
  live=$(echo "$told" | sed -n 's/^live //p' | head -n 1)
  if [ -n "$live" ]; then
    lost=0
    # To follow anew whom it follows already would make a replica too old to succeed its master.
    [ "$live" = "$4" ] && return
    redis 127.0.0.1 CLUSTER REPLICATE "$live" | grep -q OK && say "follow $live"
    return
  fi

  # A failed holder may come back, or be succeeded by a replica: only afterwards is its share up for taking.
  # A replica has the data, so it is given time to go first; it learns later than I do that its master has failed.
  case $3$told in *slave* | *failed*)
    lost=$((lost + 1))
    case $3 in *slave*) rounds=15 ;; *) rounds=$((15 * NODES / SHARDS)) ;; esac
    [ $lost -lt $rounds ] && return ;;
  esac
  case $3 in
    *slave*) succeed ;;
    *) [ "$ordinal" -lt "$SHARDS" ] && take ;;
  esac
}

# succeed: what an election does, where too few masters are left to hold one.
succeed() {
  if redis 127.0.0.1 CLUSTER FAILOVER TAKEOVER | grep -q OK; then
    say "succeed the failed master"
  else
    redis 127.0.0.1 CLUSTER RESET >/dev/null && say "the master is unknown: begin anew"
  fi
}

take() {
  for id in $(echo "$told" | sed -n 's/^failed //p' | sort -u); do
    say "the slots $first-$last were $id's, which is gone, and their data with it"
    redis 127.0.0.1 CLUSTER FORGET "$id" >/dev/null
  done
  redis 127.0.0.1 CLUSTER ADDSLOTSRANGE $first $last | grep -q OK \
    && redis 127.0.0.1 CLUSTER BUMPEPOCH >/dev/null && say "take the slots $first-$last"
}

forget() {
  redis 127.0.0.1 CLUSTER NODES | while read -r id _ flags _ _ _ _ _ slots; do
    case ,$flags, in
      *,fail,*) [ -z "$slots" ] && redis 127.0.0.1 CLUSTER FORGET "$id" | grep -q OK && say "forget $id" ;;
    esac
  done
}

say "keeping ${POD_NAME}: share $((share + 1)) of $SHARDS, $NODES pods"
while :; do
  if meet; then
    settle
    forget
  fi
  sleep 1 &
  wait $!
done
