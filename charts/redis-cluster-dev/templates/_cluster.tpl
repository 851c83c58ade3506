{{/* The StatefulSets, as a YAML list: one, or with replicas one for each shard. */}}
{{- define "redis-cluster-dev.sets" -}}
{{- $name := include "hourglass.fullname" . -}}
{{- $replicas := int .Values.replicasPerShard -}}
{{- if eq $replicas 0 -}}
- {name: {{ quote $name }}, pods: {{ int .Values.shards }}, labels: {}}
{{- else -}}
{{- /* A revision's label has eleven characters more than the name. */ -}}
{{- range $shard := until (int .Values.shards) }}
- name: {{ printf "%s-%d" ($name | trunc 49 | trimSuffix "-") $shard | quote }}
  pods: {{ add 1 $replicas }}
  labels: {app.kubernetes.io/component: {{ printf "shard-%d" $shard | quote }}}
{{- end }}
{{- end -}}
{{- end -}}

{{/* The pods' names: first one pod of each shard, then a replica of each shard, and so on. */}}
{{- define "redis-cluster-dev.peers" -}}
{{- $peers := list -}}
{{- $sets := include "redis-cluster-dev.sets" . | fromYamlArray -}}
{{- range $rank := until (int (first $sets).pods) -}}
{{- range $sets -}}
{{- $peers = append $peers (printf "%s-%d" .name $rank) -}}
{{- end -}}
{{- end -}}
{{- join " " $peers -}}
{{- end -}}

{{/* Domain of the pods' names. */}}
{{- define "redis-cluster-dev.domain" -}}
{{ include "hourglass.fullname" . }}-nodes.{{ .Release.Namespace }}.svc.{{ include "hourglass.scalar" .Values.clusterDomain }}
{{- end -}}

{{- define "redis-cluster-dev.authSecret" -}}
{{- include "hourglass.scalar" .Values.auth.existingSecret | default (include "hourglass.fullname" .) -}}
{{- end -}}

{{- define "redis-cluster-dev.tlsSecret" -}}
{{- include "hourglass.scalar" .Values.tls.existingSecret | default (printf "%s-tls" (include "hourglass.fullname" .)) -}}
{{- end -}}

{{- define "redis-cluster-dev.files" -}}
redis.conf: |
  # The pod's network is open; users and the NetworkPolicy control access.
  protected-mode no
  bind * -::*
  dir /data
  cluster-enabled yes
  cluster-config-file nodes.conf
  cluster-node-timeout {{ int .Values.nodeTimeoutMs }}
  # Without one shard the others continue.
  cluster-require-full-coverage no
  # Redirections name hosts, because a restarted pod has another address.
  cluster-preferred-endpoint-type hostname
  repl-diskless-sync-delay 0
  save ""
  # Redis refuses writes before Kubernetes kills the container for its memory.
  maxmemory {{ include "hourglass.scalar" .Values.maxmemory }}
  maxmemory-policy noeviction
  {{- if .Values.persistence.enabled }}
  appendonly yes
  {{- end }}
  {{- if .Values.auth.enabled }}
  include /auth/auth.conf
  {{- end }}
  {{- if .Values.tls.enabled }}
  port 0
  tls-port 6379
  tls-cluster yes
  tls-replication yes
  tls-auth-clients {{ ternary "yes" "optional" (eq .Values.tls.clientCertificates "required") }}
  tls-ca-cert-file /tls/ca.crt
  tls-cert-file /tls/tls.crt
  tls-key-file /tls/tls.key
  {{- else }}
  port 6379
  {{- end }}
  {{- with .Values.extraConfig }}
  {{- include "hourglass.scalar" . | nindent 2 }}
  {{- end }}
{{- range $name := list "keeper.sh" "auth.sh" "users.sh" "users.acl" "ready.sh" }}
{{ $name }}: |
  {{- $.Files.Get (printf "files/%s" $name) | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Options of redis-cli for the servers of all pods. */}}
{{- define "redis-cluster-dev.clientEnv" -}}
- name: REDIS_FLAGS
  value: {{ printf "%s%s" (ternary "--no-auth-warning --user keeper " "" .Values.auth.enabled) (ternary "--tls --cacert /tls/ca.crt --cert /tls/tls.crt --key /tls/tls.key" "" .Values.tls.enabled) | trim | quote }}
{{- if .Values.auth.enabled }}
- name: REDISCLI_AUTH
  valueFrom:
    secretKeyRef:
      name: {{ include "redis-cluster-dev.authSecret" . | quote }}
      key: keeper-password
{{- end }}
{{- end -}}
